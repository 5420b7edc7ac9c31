"""Tiny ONNX models of every datatype, taken into a repository as a user's own would be."""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from headrace_models.add import add
from headrace_models.repository import ModelVersion, read_version

__all__ = ["IN_ONNX", "added", "identity"]

IN_ONNX = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}


def added(folder: Path, nodes: Sequence[onnx.NodeProto], given: str, gives: str) -> ModelVersion:
    """A version of these nodes: `x` [n, 3] of one datatype -> `y` [n, 3] of another."""
    values = [
        [helper.make_tensor_value_info(name, IN_ONNX[datatype], ["n", 3])]
        for name, datatype in (("x", given), ("y", gives))
    ]
    graph = helper.make_graph(nodes, "model", values[0], values[1])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "given.onnx")
    return read_version(add(folder / "given.onnx", "mine", folder / "repository"))


def identity(folder: Path, datatype: str) -> ModelVersion:
    return added(folder, [helper.make_node("Identity", ["x"], ["y"])], datatype, datatype)
