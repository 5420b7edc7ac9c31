"""ONNX Runtime with inputs and outputs bound to a device's memory, here the CPU's."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from tests.backends.own_models import IN_ONNX, added, identity
from tests.backends.test_onnx import any_bits

from headrace.backends.onnx_bound import Bound, device_runner
from headrace.inference.tensor import from_array, to_array
from headrace_models.onnx_run import runner
from headrace_models.repository import ModelVersion


def session(version: ModelVersion) -> ort.InferenceSession:
    return ort.InferenceSession(version.path("model.onnx"), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("datatype", IN_ONNX)
def test_every_datatype_comes_back_the_same_bits(tmp_path: Path, datatype: str) -> None:
    sent = any_bits(datatype)
    back = from_array(
        "y",
        device_runner(session(identity(tmp_path, datatype)), ["y"], "cpu")({"x": to_array(sent)})[
            "y"
        ],
    )
    assert (back.datatype, back.shape, bytes(back.data)) == (datatype, sent.shape, bytes(sent.data))


@pytest.fixture
def tripling(tmp_path: Path) -> ort.InferenceSession:
    nodes = [
        helper.make_node("Add", ["x", "x"], ["two"]),
        helper.make_node("Add", ["two", "x"], ["y"]),
    ]
    return session(added(tmp_path, nodes, "FP32", "FP32"))


def test_it_answers_as_the_plain_run_does_whatever_the_shapes(
    tripling: ort.InferenceSession,
) -> None:
    bound, plain = Bound(tripling, ["y"], "cpu", max_shapes=2), runner(tripling)
    for rows in (1, 4, 2, 1, 7, 4, 4, 1):
        x = np.random.default_rng(rows).random((rows, 3), np.float32)
        np.testing.assert_array_equal(bound({"x": x})["y"], plain({"x": x})["y"])


def test_an_answer_is_not_touched_by_the_next_batch(tripling: ort.InferenceSession) -> None:
    bound = device_runner(tripling, ["y"], "cpu")
    first = bound({"x": np.ones((2, 3), np.float32)})["y"]
    bound({"x": np.zeros((2, 3), np.float32)})
    assert first.tolist() == [[3, 3, 3]] * 2


def test_a_batch_after_one_that_the_session_refused_is_answered(
    tripling: ort.InferenceSession,
) -> None:
    bound = device_runner(tripling, ["y"], "cpu")
    with pytest.raises(Exception, match="Got: 4 Expected: 3"):
        bound({"x": np.ones((2, 4), np.float32)})
    assert bound({"x": np.ones((1, 3), np.float32)})["y"].tolist() == [[3, 3, 3]]


def test_a_scalar_stays_one() -> None:
    node = helper.make_node("Mul", ["x", "s"], ["y"])
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, axes)
        for name, axes in (("x", ["n"]), ("s", []))
    ]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph([node], "scaled", values, [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    scaled = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {"x": np.ones(2, np.float32), "s": np.array(3, np.float32)}
    assert device_runner(scaled, ["y"], "cpu")(inputs)["y"].tolist() == [3, 3]
