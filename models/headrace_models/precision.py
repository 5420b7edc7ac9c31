"""How exactly rows may be asked to repeat beside others: weights of few bits round to other numbers."""

from pathlib import Path

from headrace_models.spec import Batching

__all__ = ["rows_tolerance"]

_EXACT = Batching().tolerance
# One step of 8 bits, a few of half precision: what rounding may come to, where rows are otherwise independent.
_COARSE = 1e-2
# These take their scale from the whole batch: one row changes another's answer by more than rounding.
_SCALED_BY_THE_BATCH = frozenset(
    {"DynamicQuantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger", "ConvInteger"}
)


def rows_tolerance(onnx_file: Path) -> float:
    """A wider tolerance for a graph of half precision or of fixed quantisation, else the usual one.

    Without the `onnx` package, which reads graphs, it is the usual one.
    """
    try:
        import onnx
    except ImportError:
        return _EXACT
    graph = onnx.load(str(onnx_file), load_external_data=False).graph
    kinds = {node.op_type for node in graph.node}
    if kinds & _SCALED_BY_THE_BATCH:
        return _EXACT
    half = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    types = {held.data_type for held in graph.initializer}
    types |= {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    is_coarse = bool(types & half) or any(kind == "QuantizeLinear" or kind.startswith("QLinear") for kind in kinds)
    return _COARSE if is_coarse else _EXACT
