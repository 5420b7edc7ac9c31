"""ONNX Runtime behind our contract: every datatype of the protocol comes back with the same
bits.
"""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from tests.backends.own_models import IN_ONNX, added, identity

from headrace.backends import load
from headrace.errors import BadRequest
from headrace.inference.tensor import Tensor, from_array, pack_bytes, to_array
from headrace_models.golden import difference, read_golden
from headrace_models.spec import DTYPES

EVERY = pytest.mark.parametrize("datatype", IN_ONNX)


def any_bits(datatype: str) -> Tensor:
    """Four rows of bits of every kind: extremes, NaNs, infinities and denormals among them."""
    if datatype == "BYTES":
        texts = [
            "",
            "a",
            "é",
            "x\0y",
            "ends in NUL\0",
            "漢字" * 100,
            "\U0001f642",
            " ",
            "\n",
            "\x7f",
            "z",
            "ß",
        ]
        return Tensor("x", "BYTES", (4, 3), pack_bytes(texts))
    random = np.random.default_rng(0).bytes(12 * DTYPES[datatype].itemsize)
    bits = (
        bytes(byte & 1 for byte in random)
        if datatype == "BOOL"
        else random[:-8] + b"\xff" * 4 + b"\0\0\x80\x7f"
    )
    return Tensor("x", datatype, (4, 3), bits[: len(random)])


@EVERY
def test_every_datatype_comes_back_the_same_bits(tmp_path: Path, datatype: str) -> None:
    sent = any_bits(datatype)
    outputs = load(identity(tmp_path, datatype), "onnx").run({"x": to_array(sent)})
    back = from_array("y", outputs["y"])
    assert (back.datatype, back.shape, bytes(back.data)) == (datatype, sent.shape, bytes(sent.data))


@EVERY
def test_every_datatype_has_a_golden_answer_that_is_read_back(
    tmp_path: Path, datatype: str
) -> None:
    version = identity(tmp_path, datatype)
    assert [i.datatype for i in version.spec.inputs] == [datatype]
    inputs, outputs = read_golden(version)
    assert difference(load(version, "onnx").run(inputs)["y"], outputs["y"], 0) == 0
    assert inputs["x"].dtype == DTYPES.get(datatype, np.dtype(object))


@pytest.mark.parametrize("gives", ["BF16", "FP16", "INT64", "BYTES"])
def test_inputs_and_outputs_of_several_datatypes_mix(tmp_path: Path, gives: str) -> None:
    cast = helper.make_node("Cast", ["x"], ["y"], to=IN_ONNX[gives])
    version = added(tmp_path, [cast], "FP32", gives)
    y = from_array("y", load(version, "onnx").run({"x": np.array([[1, 2, 3]], np.float32)})["y"])
    assert y.datatype == gives
    assert [float(value) for value in to_array(y).ravel()] == [1, 2, 3]


def test_a_text_that_is_not_utf_8_is_the_callers_mistake(tmp_path: Path) -> None:
    backend = load(identity(tmp_path, "BYTES"), "onnx")
    with pytest.raises(BadRequest, match=r'^input "x": expected UTF-8 text$'):
        backend.run({"x": np.array([[b"a", b"\xff\xfe", b"b"]], object)})


@pytest.mark.parametrize(
    ("found", "expected", "worst"),
    [
        ([1.0, 2.0], [1.0, 2.00001], 0),
        ([1.0, 2.5], [1.0, 2.0], 0.5),
        ([[1.0]], [1.0], float("inf")),
        ([float("nan")], [float("nan")], 0),
        ([True, False], [True, True], 1),
        (np.array(["a"], object), np.array([b"a"], object), 0),
        (np.array(["a"], object), np.array([b"b"], object), float("inf")),
    ],
)
def test_answers_are_compared_by_their_kind(found: object, expected: object, worst: float) -> None:
    assert difference(np.asarray(found), np.asarray(expected), 1e-4) == worst


def test_a_number_that_became_nan_differs() -> None:
    assert difference(np.array([np.nan]), np.array([1.0]), 1e-4)
