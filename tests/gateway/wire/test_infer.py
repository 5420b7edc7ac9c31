"""The infer body, JSON and binary: what is read right, and what is refused with its field named."""

from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loadtests.support.model_specs import model_spec, tensor_spec

from headrace.errors import BadRequest, NonFiniteInput
from headrace.gateway.wire.infer import Codec, InferBody
from headrace.inference.request import Answer, Times
from headrace.inference.tensor import from_array, to_array
from headrace_models.spec import DTYPES, ModelSpec


def spec(datatype: str = "FP32", shape: tuple[int, ...] = (2, 2), **more: Any) -> ModelSpec:
    fields: dict[str, Any] = {
        "inputs": [tensor_spec("x", datatype, shape)],
        "outputs": [tensor_spec("y", datatype, shape), tensor_spec("z", "INT64", [])],
    }
    return model_spec("m", **fields | more)


def tensor(data: object = (1, 2, 3, 4), **changes: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [1, 2, 2], "datatype": "FP32", "data": data} | changes


def decode(document: object, the: ModelSpec | None = None) -> InferBody:
    return Codec(the or spec()).decode(orjson.dumps(document), None)


def decode_binary(
    array: np.ndarray, the: ModelSpec, codec: Codec | None = None, **changes: Any
) -> InferBody:
    sent = from_array("x", array)
    parameters = {"binary_data_size": len(sent.data)}
    header = orjson.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": array.shape,
                    "datatype": sent.datatype,
                    "parameters": parameters,
                }
                | changes
            ]
        }
    )
    return (codec or Codec(the)).decode(header + bytes(sent.data), str(len(header)))


def test_flat_and_nested_data_are_the_same_tensor() -> None:
    flat, nested = decode({"inputs": [tensor()]}), decode({"inputs": [tensor([[[1, 2], [3, 4]]])]})
    np.testing.assert_array_equal(to_array(flat.inputs[0]), to_array(nested.inputs[0]))


@pytest.mark.parametrize("datatype", [*DTYPES, "BYTES"])
def test_every_datatype_arrives_as_it_was_sent(datatype: str) -> None:
    the = spec(datatype)
    if datatype == "BYTES":
        array = np.array([["é", "b"], ["", "d"]], object)[None]
        expected = np.vectorize(str.encode, otypes=[object])(array)
    else:
        array = expected = np.array([[[1, 0], [0, 1]]], DTYPES[datatype])
    read = decode({"inputs": [tensor(array.ravel().tolist(), datatype=datatype)]}, the)
    np.testing.assert_array_equal(to_array(read.inputs[0]), expected)
    np.testing.assert_array_equal(to_array(decode_binary(array, the).inputs[0]), expected)


def test_integers_of_64_bits_survive() -> None:
    values = [4611686018427387904, -9223372036854775808, 9223372036854775807, 9007199254740993]
    read = decode({"inputs": [tensor(values, datatype="INT64")]}, spec("INT64"))
    assert to_array(read.inputs[0]).ravel().tolist() == values


def test_a_remembered_header_reads_other_bytes() -> None:
    codec, the = Codec(spec()), spec()
    for value in (1.0, 2.0, 3.0):
        array = np.full((1, 2, 2), value, np.float32)
        np.testing.assert_array_equal(to_array(decode_binary(array, the, codec).inputs[0]), array)


def test_a_remembered_header_does_not_let_nan_past_a_model_of_finite_numbers() -> None:
    the = spec(finite=True)
    codec = Codec(the)
    decode_binary(np.ones((1, 2, 2), np.float32), the, codec)
    with pytest.raises(NonFiniteInput, match="expected finite numbers"):
        decode_binary(np.full((1, 2, 2), np.nan, np.float32), the, codec)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "body: expected a JSON object, found an array"),
        ({}, "inputs: expected a non-empty array of objects"),
        ({"inputs": {}}, "inputs: expected a non-empty array of objects"),
        ({"inputs": [7]}, "inputs: expected a non-empty array of objects"),
        ({"inputs": [tensor(name="w")]}, "inputs[0].name: expected one of ['x'], found \"w\""),
        ({"inputs": [tensor(), tensor()]}, 'inputs[1].name: input "x" is given twice'),
        ({"inputs": [tensor(datatype="FP64")]}, 'inputs[0].datatype: expected FP32, found "FP64"'),
        ({"inputs": [tensor(shape=[1, 4])]}, "inputs[0].shape: expected 3 axes [n, 2, 2], found 2"),
        ({"inputs": [tensor(shape=[1, 2, 3])]}, "inputs[0].shape: axis 2: expected 2, found 3"),
        (
            {"inputs": [tensor(shape=[0, 2, 2])]},
            "inputs[0].data: expected 0 elements for shape [0, 2, 2], found 4",
        ),
        (
            {"inputs": [tensor(shape=[-1, 2, 2])]},
            "inputs[0].shape: expected an array of integers of 0 or more",
        ),
        (
            {"inputs": [tensor(shape=[True, 2, 2])]},
            "inputs[0].shape: expected an array of integers of 0 or more",
        ),
        (
            {"inputs": [tensor(shape=[2**62, 2, 2])]},
            "inputs[0].shape: expected at most 2147483648 elements",
        ),
        (
            {"inputs": [tensor([1, 2, 3])]},
            "inputs[0].data: expected 4 elements for shape [1, 2, 2], found 3",
        ),
        ({"inputs": [tensor("text")]}, "inputs[0].data: expected an array, found a string"),
        ({"inputs": [tensor([1, 2, "3", 4])]}, "inputs[0].data[2]: expected numbers only"),
        ({"inputs": [tensor([1, 2, True, 4])]}, "inputs[0].data[2]: expected numbers only"),
        ({"inputs": [tensor([[[1, 2], [3, None]]])]}, "inputs[0].data[3]: expected numbers only"),
        (
            {"inputs": [tensor([1, 2, 1e39, 4])]},
            "inputs[0].data[2]: a value is out of range for FP32",
        ),
        (
            {"inputs": [tensor([1, float("nan"), -1e39, 4])]},
            "inputs[0].data[1]: expected numbers only",
        ),
        (
            {"inputs": [tensor(None)]},
            "inputs[0]: expected data or parameters.binary_data_size, found neither",
        ),
        (
            {"inputs": [tensor(parameters={"binary_data_size": 4})]},
            "inputs[0]: expected data or parameters.binary",
        ),
        ({"inputs": [tensor(parameters=[])]}, "inputs[0].parameters: expected an object"),
        (
            {"inputs": [tensor(parameters={"shared_memory_region": "r"})]},
            "inputs[0].parameters: shared memory",
        ),
        (
            {"inputs": [tensor()], "outputs": [{"name": "w"}]},
            "outputs[0].name: expected one of ['y', 'z']",
        ),
        (
            {"inputs": [tensor()], "outputs": [{"name": "y"}] * 2},
            'outputs[1].name: output "y" is requested twice',
        ),
        ({"inputs": [tensor()], "id": 7}, "id: expected a string"),
        (
            {"inputs": [tensor()], "parameters": {"timeout": -1}},
            "parameters.timeout: expected an integer",
        ),
        ({"inputs": [tensor()], "parameters": {"sequence_id": 7}}, "parameters.sequence_id"),
    ],
)
def test_a_wrong_request_is_refused_with_its_field_expected_and_found(
    document: object, says: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        decode(document)
    assert refused.value.message.startswith(says)


@pytest.mark.parametrize("value", [300, -1, 1.5])
def test_an_integer_out_of_its_range_is_refused(value: float) -> None:
    with pytest.raises(BadRequest, match=r"inputs\[0\].data"):
        decode({"inputs": [tensor([1, 2, 3, value], datatype="UINT8")]}, spec("UINT8"))


@pytest.mark.parametrize(
    ("datatype", "largest", "beyond"),
    [("FP16", 65504.0, 1e5), ("BF16", 3.3895313892515355e38, 3.4e38)],
)
def test_floats_of_two_bytes_are_numbers_in_json_and_keep_their_range(
    datatype: str, largest: float, beyond: float
) -> None:
    the, values = spec(datatype), [1.5, -largest, 1e-5, 0]
    read = decode({"inputs": [tensor(values, datatype=datatype)]}, the)
    sent = np.array(values, DTYPES[datatype]).reshape(1, 2, 2)
    np.testing.assert_array_equal(to_array(read.inputs[0]), sent)
    body, _ = Codec(the).encode(Answer([from_array("y", sent)], Times(0, 0, 0, 1)), read)
    told = np.array(orjson.loads(body)["outputs"][0]["data"], DTYPES[datatype])
    assert told.tobytes() == sent.tobytes()
    with pytest.raises(BadRequest, match=f"a value is out of range for {datatype}"):
        decode({"inputs": [tensor([1, 2, 3, beyond], datatype=datatype)]}, the)


IDS = [{"name": "x", "datatype": "INT64", "shape": [2, 2], "minimum": 0, "maximum": 9}]


@pytest.mark.parametrize("wrong", [-1, 10, 2**62, -(2**63)])
def test_an_integer_outside_what_a_model_can_look_up_is_refused_in_json_and_in_binary(
    wrong: int,
) -> None:
    the = spec(inputs=IDS)
    codec, says = Codec(the), f"expected values from 0 to 9, found {wrong}$"
    with pytest.raises(BadRequest, match=rf"^inputs\[0\]: {says}"):
        decode({"inputs": [tensor([0, 9, 1, wrong], datatype="INT64")]}, the)
    for _ in range(2):  # the second time by the remembered header
        decode_binary(np.array([[[0, 9], [1, 2]]]), the, codec)
        with pytest.raises(BadRequest, match=says):
            decode_binary(np.array([[[0, 9], [1, wrong]]]), the, codec)


def test_of_several_rows_the_wrong_one_is_named() -> None:
    ids = np.zeros((3, 2, 2), np.int64)
    ids[1, 1, 0] = 10
    says = r"expected values from 0 to 9, found 10 in row 1$"
    with pytest.raises(BadRequest, match=says):
        decode(
            {"inputs": [tensor(ids.tolist(), shape=[3, 2, 2], datatype="INT64")]}, spec(inputs=IDS)
        )
    with pytest.raises(BadRequest, match=says):
        decode_binary(ids, spec(inputs=IDS))
    floats = np.zeros((3, 2, 2), np.float32)
    floats[2, 0, 1] = np.inf
    with pytest.raises(NonFiniteInput, match=r"found NaN or infinity in row 2$"):
        decode_binary(floats, spec(finite=True))


def test_a_range_may_have_one_end() -> None:
    the = spec(inputs=[{"name": "x", "datatype": "INT64", "shape": [2, 2], "minimum": 0}])
    assert (
        to_array(
            decode({"inputs": [tensor([0, 1, 2, 2**62], datatype="INT64")]}, the).inputs[0]
        ).max()
        == 2**62
    )
    with pytest.raises(BadRequest, match="expected values from 0 to any, found -1"):
        decode({"inputs": [tensor([0, 1, 2, -1], datatype="INT64")]}, the)


def reads_text() -> ModelSpec:
    """A model of texts, which are its raw input."""
    characters = {
        "kind": "characters",
        "input": "text",
        "output": "x",
        "alphabet": "ab",
        "max_chars": 9,
    }
    return spec(inputs=[{"name": "x", "datatype": "INT64", "shape": [-1]}], preprocess=characters)


@pytest.mark.parametrize("data", [["a", "b"], [["a"], ["b"]]])
def test_texts_may_come_as_a_column(data: object) -> None:
    """Triton's clients know no input without an axis beside the rows."""
    column = {"name": "text", "datatype": "BYTES", "shape": [2, 1], "data": data}
    (text,) = decode({"inputs": [column]}, reads_text()).inputs
    assert (text.shape, to_array(text).tolist()) == ((2,), [b"a", b"b"])
    codec = Codec(reads_text())
    packed = bytes(text.data)
    header = orjson.dumps(
        {"inputs": [column | {"parameters": {"binary_data_size": len(packed)}} | {"data": None}]}
    ).replace(b',"data":null', b"")
    for _ in range(2):  # the second time by the remembered header
        (again,) = codec.decode(header + packed, str(len(header))).inputs
        assert (again.shape, bytes(again.data)) == ((2,), packed)


@pytest.mark.parametrize(
    "shape", [[2, 2], [2, 0], [1, 2], [2, 1, 1], [], [2, True], [2**62, 1], [-1, 1]]
)
def test_texts_come_in_no_other_shape(shape: list[int]) -> None:
    with pytest.raises(BadRequest, match=r"inputs\[0\]\.shape"):
        decode(
            {"inputs": [{"name": "text", "datatype": "BYTES", "shape": shape, "data": ["a", "b"]}]},
            reads_text(),
        )


STRANGE = [1.0, np.nan, -np.inf, np.inf]
FLOATS = ["FP16", "FP32", "FP64", "BF16"]


def strange(datatype: str, tokens: str = "1,NaN,-Infinity,Infinity") -> bytes:
    tensor = f'{{"name":"x","shape":[1,2,2],"datatype":"{datatype}","data":[{tokens}]}}'
    return f'{{"inputs":[{tensor}]}}'.encode()


@pytest.mark.parametrize("datatype", FLOATS)
def test_nan_and_infinity_are_numbers_in_json_and_in_binary(datatype: str) -> None:
    sent = np.array(STRANGE, DTYPES[datatype]).reshape(1, 2, 2)
    read = Codec(spec(datatype)).decode(strange(datatype), None)
    np.testing.assert_array_equal(to_array(read.inputs[0]).astype(float), sent.astype(float))
    assert bytes(decode_binary(sent, spec(datatype)).inputs[0].data) == sent.tobytes()


def test_every_bit_of_a_nan_arrives() -> None:
    sent = (
        np.array([0x7FC00001, 0xFFC00000, 0x7F800001, 0x7F800000], "<u4")
        .view("<f4")
        .reshape(1, 2, 2)
    )
    assert bytes(decode_binary(sent, spec()).inputs[0].data) == sent.tobytes()


@pytest.mark.parametrize("datatype", FLOATS)
@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
def test_a_model_of_finite_numbers_refuses_others_by_the_inputs_place(
    datatype: str, token: str
) -> None:
    the = spec(datatype, finite=True)
    with pytest.raises(NonFiniteInput, match=r"^inputs\[0\]: expected finite numbers"):
        Codec(the).decode(strange(datatype, f"1,2,3,{token}"), None)
    with pytest.raises(NonFiniteInput, match="expected finite numbers"):
        decode_binary(np.full((1, 2, 2), float(token), DTYPES[datatype]), the)


@pytest.mark.parametrize(
    ("datatype", "number"),
    [("FP16", "1e5"), ("FP32", "1e40"), ("FP64", "1e400"), ("FP64", "-1e400"), ("BF16", "1e39")],
)
@pytest.mark.parametrize("beside", ["2", "NaN", "Infinity"])
def test_a_number_too_large_for_its_datatype_is_no_infinity(
    datatype: str, number: str, beside: str
) -> None:
    with pytest.raises(BadRequest, match="out of range"):
        Codec(spec(datatype)).decode(strange(datatype, f"1,{beside},{number},4"), None)


@pytest.mark.parametrize("datatype", ["INT64", "UINT8", "BOOL", "BYTES"])
def test_nan_is_no_integer_no_boolean_and_no_text(datatype: str) -> None:
    with pytest.raises(BadRequest):
        Codec(spec(datatype)).decode(strange(datatype, "NaN,1,1,1"), None)


@pytest.mark.parametrize("datatype", FLOATS)
def test_an_answer_that_is_not_finite_is_null_in_json_and_as_it_is_in_binary(datatype: str) -> None:
    output = from_array("y", np.array(STRANGE, DTYPES[datatype]).reshape(1, 2, 2))
    answer = Answer([output], Times(0, 0, 0, 1))
    for wants, told in (({}, None), ({"binary_data_output": True}, output.data)):
        asked = Codec(spec(datatype)).decode(
            strange(datatype)[:-1] + b',"parameters":' + orjson.dumps(wants) + b"}", None
        )
        body, length = Codec(spec(datatype)).encode(answer, asked)
        if told is None:
            assert orjson.loads(body)["outputs"][0]["data"] == [1.0, None, None, None]
        else:
            assert body[length:] == bytes(told)


@pytest.mark.parametrize(
    "length",
    [
        "",
        "00",
        "-1",
        "+5",
        "abc",
        "99999999999999999999",
        "000000000001" + "0" * 5000,
        "00000000000199",
    ],
)
def test_a_header_length_that_is_none_is_refused(length: str) -> None:
    with pytest.raises(BadRequest, match="Inference-Header-Content-Length"):
        Codec(spec()).decode(b'{"inputs":[]}', length)


@pytest.mark.parametrize(
    ("size", "says"),
    [(12, "expected 16"), (20, "4 bytes are missing"), (-1, "expected an integer")],
)
def test_binary_sizes_must_fit_the_shape_and_the_body(size: int, says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        decode_binary(np.ones((1, 2, 2), np.float32), spec(), parameters={"binary_data_size": size})


def test_bytes_left_over_are_refused() -> None:
    header = orjson.dumps({"inputs": [tensor()]})
    with pytest.raises(BadRequest, match="expected 0 bytes of binary tensors, found 3"):
        Codec(spec()).decode(header + b"abc", str(len(header)))


def test_outputs_come_in_the_order_and_form_asked_for() -> None:
    outputs = [{"name": "z", "parameters": {"binary_data": True}}, {"name": "y"}]
    asked = decode({"inputs": [tensor()], "outputs": outputs, "id": "7"})
    answer = Answer(
        [from_array("z", np.array([5])), from_array("y", np.ones((1, 2, 2), np.float32))],
        Times(0, 0, 0, 1),
    )
    assert asked.outputs == ["z", "y"]
    body, length = Codec(spec()).encode(answer, asked)
    document = orjson.loads(body[:length])
    assert [output["name"] for output in document["outputs"]] == ["z", "y"]
    assert document["outputs"][1]["data"] == [1, 1, 1, 1]
    assert body[length:] == (5).to_bytes(8, "little")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_request_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    body = bytearray(
        orjson.dumps(
            {"inputs": [tensor()], "outputs": [{"name": "y"}], "parameters": {"timeout": 5}}
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        if data.draw(st.booleans()):
            body[place] = data.draw(st.integers(0, 255))
        else:
            del body[place]
    with suppress(BadRequest):
        Codec(spec()).decode(bytes(body), None)
