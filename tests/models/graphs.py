"""Small ONNX models for the tests: nodes, constants, inputs and outputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["FLOAT", "FLOAT_X", "FLOAT_Y", "INT64", "Value", "node", "save"]

# A tensor's name, element type and axes; without an element type it is a sequence of tensors of
# floats.
Value = tuple[str, int | None, Sequence[int | str] | None]

FLOAT, INT64 = int(TensorProto.FLOAT), int(TensorProto.INT64)
FLOAT_X: Value = ("x", FLOAT, ["n", 3])
FLOAT_Y: Value = ("y", FLOAT, ["n", 3])


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Value] = (FLOAT_X,),
    outputs: Sequence[Value] = (FLOAT_Y,),
    **constants: Any,
) -> Path:
    """Save a model of opset 17; returns its file."""
    values = [[_info(*value) for value in side] for side in (inputs, outputs)]
    held = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "model", values[0], values[1], held)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=opset), path)
    return path


def _info(name: str, kind: int | None, axes: Sequence[int | str] | None) -> onnx.ValueInfoProto:
    if kind is None:
        return helper.make_tensor_sequence_value_info(name, FLOAT, axes)
    return helper.make_tensor_value_info(name, kind, axes)


def node(kind: str, inputs: str = "x", outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)
