"""Large JSON bodies: tensors and refusals as of small ones, and bounded structure."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gateway.wire.test_hostile_bodies import codec

from headrace.errors import BadJson, BadRequest, NonFiniteInput
from headrace.gateway.json.document import LARGE_BYTES, parse
from headrace.gateway.json.elements import elements
from headrace.gateway.json.long_arrays import LongArray, lift, put_back
from headrace.gateway.json.scan import MAX_DEPTH, MAX_ELEMENTS, scan
from headrace.inference.tensor import to_array

ROWS = 10_000  # of 4 numbers: beyond LARGE_BYTES as text


def body(data: str, datatype: str = "FP32", rest: str = "", rows: int = ROWS) -> bytes:
    tensor = f'{{"name":"x","datatype":"{datatype}","shape":[{rows},4],"data":{data}}}'
    return f'{{"id":"a \\"quoted\\" [id] \\\\","inputs":[{tensor}]{rest}}}'.encode()


def read(text: bytes, datatype: str = "FP32") -> np.ndarray:
    assert len(text) > LARGE_BYTES
    return to_array(codec(datatype, (4,)).decode(text, None).inputs[0])


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT64", "INT16", "UINT64", "FP16", "BF16"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_long_array_is_read_as_a_short_one_is(datatype: str, is_nested: bool) -> None:
    numbers = (np.arange(ROWS * 4) % 256).reshape(ROWS, 4)
    data = json.dumps(numbers.tolist() if is_nested else numbers.ravel().tolist())
    np.testing.assert_array_equal(read(body(data, datatype), datatype).astype(np.int64), numbers)


def test_floats_come_through_to_the_last_bit() -> None:
    numbers = np.random.default_rng(0).standard_normal((ROWS, 4)).astype(np.float32)
    np.testing.assert_array_equal(read(body(json.dumps(numbers.tolist()))), numbers)


def test_integers_of_64_bits_survive() -> None:
    numbers = [2**63 - 1 - n for n in range(ROWS * 4)]
    assert read(body(json.dumps(numbers), "INT64"), "INT64").ravel().tolist() == numbers


@pytest.mark.parametrize(
    "broken",
    [
        "1,,2",
        "1 2",
        "[1]",
        "[[1,2]",
        "1]",
        "null",
        "true",
        '"1"',
        "{}",
        "1e400",
        "01",
        "1.",
        "-",
        "nan",
        "-NaN",
        "NaN1",
        "Inf",
        "NaN NaN",
        "NaN,1e400",
        "0x1",
        "[]",
        "",
    ],
)
@pytest.mark.parametrize("place", [0, 5, 20_000])
def test_one_wrong_element_among_many_is_refused(broken: str, place: int) -> None:
    numbers = ["1"] * (ROWS * 4)
    numbers[place] = broken
    with pytest.raises(BadRequest):
        read(body("[" + ",".join(numbers) + "]"))


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("place", [0, 5, 20_000, ROWS * 4 - 1])
def test_one_that_is_not_finite_is_a_number_among_many_unless_the_model_says_no(
    token: str, place: int
) -> None:
    numbers = ["1"] * (ROWS * 4)
    numbers[place] = token
    text = body("[" + ",".join(numbers) + "]")
    expected = np.ones(ROWS * 4, np.float32)
    expected[place] = float(token)
    np.testing.assert_array_equal(read(text).ravel(), expected)
    with pytest.raises(NonFiniteInput, match=r"^inputs\[0\]"):
        codec("FP32", (4,), finite=True).decode(text, None)


@pytest.mark.parametrize("shape", [(4, ROWS), (2 * ROWS, 2), (ROWS, 2, 2), (1, ROWS, 4)])
def test_nesting_that_contradicts_the_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadRequest, match="flat array, or one that is nested"):
        read(body(json.dumps(np.ones(shape).tolist())))


def test_ragged_rows_are_refused() -> None:
    rows = [[1.0] * 4 for _ in range(ROWS)]
    rows[3], rows[4] = [1.0] * 5, [1.0] * 3
    with pytest.raises(BadRequest, match="flat array, or one that is nested"):
        read(body(json.dumps(rows)))


@pytest.mark.parametrize(
    "row", ["[]1,2,3,4", "[1],2,3,4", "[1,2,3],4", "[[1],2,3,4]", "[1,[2,3],[],4]"]
)
@pytest.mark.parametrize("beside", ["1", "NaN"])
@pytest.mark.parametrize("rows", [1, ROWS])
def test_a_row_that_is_nested_in_its_own_way_is_refused(row: str, beside: str, rows: int) -> None:
    others = [f"[{beside},2,3,4]"] * (rows - 1)
    with pytest.raises(BadRequest):
        codec("FP32", (4,)).decode(body("[" + ",".join([*others, row]) + "]", rows=rows), None)


@pytest.mark.parametrize(
    "rest", [',"id":"twice"', ',"x":' + "[" * 80 + "]" * 80, ',"x":{' + '"k":1,' * 3 + '"k":2}']
)
def test_what_stands_beside_a_long_array_is_held_to_the_same(rest: str) -> None:
    with pytest.raises(BadJson):
        read(body(json.dumps([1] * (ROWS * 4)), rest=rest))


def test_texts_beside_are_what_they_were() -> None:
    document = parse(body(json.dumps([1] * (ROWS * 4))))
    assert document["id"] == 'a "quoted" [id] \\'


def test_nobody_can_name_a_lifted_array() -> None:
    text = json.dumps({"a": "0:0", "b": [1] * 30_000, "c": "0" * 16 + ":0"}).encode()
    found = parse(text)
    assert (found["a"], found["c"]) == ("0:0", "0" * 16 + ":0")
    assert isinstance(found["b"], LongArray)


nested = st.recursive(
    st.lists(st.integers(-1000, 1000), min_size=1, max_size=6),
    lambda inner: st.lists(inner, min_size=1, max_size=4),
)


@settings(max_examples=300, deadline=None)
@given(nested, st.data())
def test_whatever_the_nesting_shape_and_numbers_are_those_of_numpy(
    value: list[Any], data: st.DataObject
) -> None:
    spaces = data.draw(st.sampled_from(["", " ", "\n\t"]))
    text = json.dumps(
        {'a\\"[': "]\\", "d": value}, separators=(f",{spaces}", f":{spaces}")
    ).encode()
    skeleton, lifted = lift(text, scan(text), min_bytes=1)
    restored = put_back(json.loads(skeleton), lifted)
    assert isinstance(restored, dict)
    array = restored["d"]
    assert isinstance(array, LongArray)
    try:
        expected = np.array(value)
    except ValueError:
        # If this holds, the elements do not fill the shape, which the tensor's reader sees.
        if array.is_nested(array.shape):
            assert elements(array, "INT64", array.shape, "d").size != math.prod(array.shape)  # type: ignore[union-attr] # no texts
        return
    assert array.is_nested(array.shape)
    assert array.shape == expected.shape
    np.testing.assert_array_equal(elements(array, "INT64", expected.shape, "d"), expected.ravel())


@pytest.mark.parametrize(
    "text", [b'{"a":"\\\\"}', b'{"a":"\\""}', b'{"a":"\\\\\\"["}', b'{"a":"[[[["}']
)
def test_brackets_in_texts_do_not_count(text: bytes) -> None:
    assert scan(text).depth.max() == 1


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, 5000, 1_000_000])
def test_depth_is_bounded_at_its_limit(depth: int) -> None:
    text = b"[" * depth + b"]" * depth
    if depth <= MAX_DEPTH:
        assert scan(text).depth.max() == depth
    else:
        with pytest.raises(BadJson):
            scan(text)


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b"0," * (MAX_ELEMENTS + 1) + b"0]",
        b"[" + b"[]," * 1_000_001 + b"[]]",
        b"{" + b",".join(b'"%d":0' % n for n in range(10_001)) + b"}",
    ],
    ids=["elements", "arrays", "keys"],
)
def test_more_structure_than_is_read_is_refused(text: bytes) -> None:
    with pytest.raises(BadJson):
        scan(text)


@pytest.mark.parametrize("text", [b"[],", b'"a",', b"{},", b"true,", b'{"a":1},'])
def test_six_megabytes_of_small_things_are_refused(text: bytes) -> None:
    count = 6_000_000 // len(text)
    with pytest.raises(BadRequest):
        codec("BYTES", (4,)).decode(b'{"inputs":[' + text * count + b"{}]}", None)
