"""The smallest model that is served for real: an ONNX graph that doubles its input."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from headrace_models.add import add

__all__ = ["make_doubler"]


def make_doubler(folder: Path, repository: Path) -> Path:
    """Make a model that doubles `x` FP32 [n, 4] into `y`; returns the folder of its version."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "doubler",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    file = folder / "doubler.onnx"
    onnx.save(model, str(file))
    return add(file, "doubler", repository)
