"""A model that runs as long as its input says: an ONNX Loop, endless for large numbers."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from headrace_models.add import add
from headrace_models.publishing import ONNX_FILE, Draft, write_version

__all__ = ["ENDLESS", "make_loop", "patient_loop"]

# As many rounds as this take some thousand years.
ENDLESS = 1 << 60


def _graph() -> onnx.ModelProto:
    """`y` is `x`, INT64 [n, 4], after as many rounds as the largest number in it."""
    number, truth = TensorProto.INT64, TensorProto.BOOL
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["sum", "one"], ["next"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("i", number, []),
            helper.make_tensor_value_info("go", truth, []),
            helper.make_tensor_value_info("sum", number, []),
        ],
        [
            helper.make_tensor_value_info("on", truth, []),
            helper.make_tensor_value_info("next", number, []),
        ],
        [helper.make_tensor("one", number, [], [1])],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Loop", ["most", "yes", "zero"], ["rounds"], body=body),
        helper.make_node("Mul", ["rounds", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "loop",
        [helper.make_tensor_value_info("x", number, ["n", 4])],
        [helper.make_tensor_value_info("y", number, ["n", 4])],
        [helper.make_tensor("yes", truth, [], [True]), helper.make_tensor("zero", number, [], [0])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def make_loop(folder: Path, repository: Path) -> Path:
    """A model `loop`, as `headrace models add` makes it; the folder of its version."""
    file = folder / "loop.onnx"
    onnx.save(_graph(), str(file))
    return add(file, "loop", repository)


def patient_loop(folder: Path, repository: Path, max_run_s: float) -> Path:
    """The same with a limit of its own to a run."""
    tensor = {"datatype": "INT64", "shape": [4]}
    document: dict[str, object] = {
        "name": "loop",
        "version": "1",
        "weights": {"onnx": ONNX_FILE},
        "inputs": [{"name": "x", **tensor}],
        "outputs": [{"name": "y", **tensor}],
        "batching": {"max_run_s": max_run_s},
    }

    def draft(making: Path) -> Draft:
        onnx.save(_graph(), str(making / ONNX_FILE))
        return Draft(document, {"x": np.ones((1, 4), np.int64)})

    return write_version(repository, "loop", "1", draft)
