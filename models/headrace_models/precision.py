"""The tolerance for rows beside others: weights of few bits round to other numbers."""

from typing import TYPE_CHECKING

from headrace_models.spec import Batching

if TYPE_CHECKING:
    from onnx import GraphProto

__all__ = ["rows_tolerance"]

_EXACT = Batching().tolerance
# One step of 8 bits, a few of half precision: the effect of rounding on independent rows.
_COARSE = 1e-2
# These take their scale from the whole batch: one row changes another's answer beyond rounding.
_SCALED_BY_THE_BATCH = frozenset(
    {
        "DynamicQuantizeLinear",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "ConvInteger",
    }
)


def rows_tolerance(graph: "GraphProto | None") -> float:
    """A wider tolerance for a graph of half precision or of fixed quantisation, or the usual one.

    An unreadable graph (None) gets the usual one.
    """
    if graph is None:
        return _EXACT
    # There is a graph, and so the optional package.
    from onnx import TensorProto

    kinds = {node.op_type for node in graph.node}
    if kinds & _SCALED_BY_THE_BATCH:
        return _EXACT
    half = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
    types = {held.data_type for held in graph.initializer}
    types |= {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    is_coarse = bool(types & half) or any(
        kind == "QuantizeLinear" or kind.startswith("QLinear") for kind in kinds
    )
    return _COARSE if is_coarse else _EXACT
