"""Hostile bodies: each is refused soon, by a BadRequest whose message can be sent."""

from typing import Any

import orjson
import pytest
from loadtests.support.model_specs import model_spec, tensor_spec

from headrace.edge.problems import problem
from headrace.errors import BadRequest, HeadraceError
from headrace.gateway.wire.infer import Codec, InferBody
from headrace.inference.tensor import to_array

SURROGATE = r"\ud800"


def codec(datatype: str = "FP32", shape: tuple[int, ...] = (2,), *, finite: bool = False) -> Codec:
    inputs, outputs = [tensor_spec("x", datatype, shape)], [tensor_spec("y", shape=[2])]
    return Codec(model_spec(inputs=inputs, outputs=outputs, finite=finite))


def decode(
    data: str,
    *,
    name: str = "x",
    datatype: str = "FP32",
    declared: str | None = None,
    shape: tuple[int, ...] = (2,),
    rest: str = "",
) -> InferBody:
    axes = [1, *shape]
    tensor = f'{{"name":"{name}","datatype":"{declared or datatype}","shape":{axes},"data":{data}}}'
    body = f'{{"inputs":[{tensor}]{rest}}}'
    return codec(datatype, shape).decode(body.encode(), None)


def refusal(**request: Any) -> HeadraceError:
    with pytest.raises(BadRequest) as caught:
        decode(request.pop("data", "[1,2]"), **request)
    return caught.value


@pytest.mark.parametrize(
    "request_",
    [
        {"name": SURROGATE},
        {"declared": SURROGATE},
        {"rest": f',"id":"{SURROGATE}"'},
        {"rest": f',"outputs":[{{"name":"{SURROGATE}"}}]'},
        {"datatype": "BYTES", "data": f'["{SURROGATE}","b"]'},
    ],
    ids=["name", "datatype", "id", "output", "data"],
)
def test_half_a_character_is_refused_and_the_refusal_can_be_sent(request_: dict[str, Any]) -> None:
    response = problem(refusal(**request_), "id")
    assert response.status == 400
    assert orjson.loads(response.body)["code"] in ("bad_request", "bad_json")


@pytest.mark.parametrize("datatype", ["BOOL", "BYTES", "FP32"])
def test_deep_and_wide_data_is_refused(datatype: str) -> None:
    """Flattening level by level took 2 s for 900 levels beside 20,000 elements."""
    element = {"BOOL": "true", "BYTES": '"a"', "FP32": "NaN"}[datatype]
    data = "[" + "[" * 900 + element + "]" * 900 + f",{element}" * 20_000 + "]"
    refusal(data=data, datatype=datatype)


@pytest.mark.parametrize("depth", [100, 1000, 1020, 2000, 100_000])
@pytest.mark.parametrize("leaf", ["1", "NaN"])
def test_any_depth_is_refused_in_a_sentence(depth: int, leaf: str) -> None:
    refusal(data="[" * depth + leaf + "]" * depth)


@pytest.mark.parametrize("number", ["100000000000000000000", "-100000000000000000000"])
def test_a_float_may_be_written_without_a_point(number: str) -> None:
    """JavaScript writes 1e20 with all its digits."""
    assert to_array(decode(f"[{number},1]").inputs[0])[0, 0] == pytest.approx(float(number))


def test_whole_numbers_and_fractions_mix_in_a_float_tensor() -> None:
    assert to_array(decode("[1,2.5]").inputs[0]).tolist() == [[1.0, 2.5]]


@pytest.mark.parametrize("element", ["null", "true", '"1"', "{}", "[[1],2]", "1e400", "-1e400"])
@pytest.mark.parametrize("beside", ["2", "NaN"])
def test_what_is_no_number_is_refused(element: str, beside: str) -> None:
    refusal(data=f"[{element},{beside}]")


@pytest.mark.parametrize(
    "element", ["1.0", "1.5", "1e2", "null", "true", "9223372036854775808", "-9223372036854775809"]
)
def test_what_is_no_integer_of_64_bits_is_refused(element: str) -> None:
    refusal(data=f"[{element},2]", datatype="INT64")


@pytest.mark.parametrize(
    ("element", "value"), [("18446744073709551615", 2**64 - 1), ("9223372036854775808", 2**63)]
)
def test_unsigned_integers_of_64_bits_survive(element: str, value: int) -> None:
    assert to_array(decode(f"[{element},0]", datatype="UINT64").inputs[0])[0, 0] == value


@pytest.mark.parametrize("element", ["-1", "18446744073709551616", "0.5"])
def test_what_is_no_unsigned_integer_is_refused(element: str) -> None:
    refusal(data=f"[{element},0]", datatype="UINT64")


@pytest.mark.parametrize(
    "rows",
    ["[1],{}", "[1],[],{}", "[],{}", "[],[],{}", "[null],{}", "[NaN],{}", '["a"],{}', "[true],{}"],
)
@pytest.mark.parametrize("datatype", ["BOOL", "BYTES", "FP32", "INT64"])
def test_what_stands_in_the_place_of_a_row_is_refused(datatype: str, rows: str) -> None:
    for other in ("{}", '{"a":1}', "7", '"b"', "null", "true", "[]", "[[1]]"):
        for count in (2, 3):
            refusal(data=f"[[{rows.replace('{}', other)}]]", datatype=datatype, shape=(count, 1))


def test_elements_lost_in_uneven_nesting_are_not_made_up() -> None:
    refusal(data="[[1],[]]")
    refusal(data="[]")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b"\xef\xbb\xbf[]",
        b'{"inputs":[{"name":"x"}',
        b"{}" * 2,
        b"\x00",
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        codec().decode(body, None)


@pytest.mark.parametrize("timeout_us", [2**62, 2**63 - 1, 301_000_000])
def test_a_timeout_in_the_body_is_bounded_as_the_header_is(timeout_us: int) -> None:
    with pytest.raises(BadRequest, match="timeout"):
        decode("[1,2]", rest=f',"parameters":{{"timeout":{timeout_us}}}')


@pytest.mark.parametrize(
    "size", ["true", "1.5", '"8"', "-8", "9223372036854775807", "18446744073709551615"]
)
def test_a_binary_size_that_is_none_is_refused(size: str) -> None:
    header = (
        '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":'
        + size
        + "}}]}"
    ).encode()
    with pytest.raises(BadRequest):
        codec().decode(header + bytes(8), str(len(header)))


@pytest.mark.parametrize(
    "raw", [b"", b"\x01", b"\xff\xff\xff\xff", b"\x01\0\0\0a" * 3, b"\x01\0\0\0a\x05\0\0\0b"]
)
def test_binary_texts_that_do_not_add_up_are_refused(raw: bytes) -> None:
    header = (
        b'{"inputs":[{"name":"x","datatype":"BYTES","shape":[1,2],"parameters":{"binary_data_size":%d}}]}'
        % len(raw)
    )
    for _ in range(2):  # the second time the header could be a remembered one
        with pytest.raises(BadRequest):
            codec("BYTES").decode(header + raw, str(len(header)))


def test_a_remembered_header_still_refuses_what_does_not_fit_it() -> None:
    reader = codec("BOOL")
    parameters = b'"parameters":{"binary_data_size":2}'
    header = b'{"inputs":[{"name":"x","datatype":"BOOL","shape":[1,2],%b}]}' % parameters
    length = str(len(header))
    reader.decode(header + b"\0\1", length)
    for tail in (b"\0\2", b"\0", b"\0\1\1", b""):
        with pytest.raises(BadRequest):
            reader.decode(header + tail, length)


@pytest.mark.parametrize(
    "rest", [r',"a\u0000b":1', r',"id\u0000":[null]', r',"parameters":{"\u0000":1}']
)
def test_a_key_with_a_nul_in_it_is_refused(rest: str) -> None:
    refusal(rest=rest)


def test_many_headers_do_not_pile_up() -> None:
    reader = codec("BOOL")
    for n in range(600):
        tensor = b'{"name":"x","datatype":"BOOL","shape":[1,2],"parameters":{"binary_data_size":2}}'
        header = b'{"id":"%d","inputs":[%b]}' % (n, tensor)
        assert reader.decode(header + b"\0\1", str(len(header))).id == str(n)
