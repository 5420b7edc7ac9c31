"""Facts of an ONNX file that its runtime hides.

They are read by the `onnx` package, which may be missing.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, TensorProto

__all__ = ["read_graph", "shapeless_inputs", "weight_files"]


def read_graph(file: Path) -> "GraphProto | None":
    """The graph without weights in other files; None without the package or a readable file."""
    try:
        # An optional package.
        import onnx
    except ImportError:
        return None
    try:
        return onnx.load(str(file), load_external_data=False).graph
    except Exception:  # protobuf's errors share no base; the runtime reports what is wrong
        return None


def weight_files(graph: "GraphProto") -> list[str]:
    """The other files that its weights are in, as it names them."""
    named = {e.value for held in _tensors(graph) for e in held.external_data if e.key == "location"}
    return sorted(named)


def _tensors(graph: "GraphProto") -> "Iterator[TensorProto]":
    """The weights and constants of the graph, and of the graphs in its branches and loops."""
    yield from graph.initializer
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner)


def shapeless_inputs(graph: "GraphProto") -> list[str]:
    """The inputs whose number of axes the graph does not declare."""
    return [value.name for value in graph.input if not value.type.tensor_type.HasField("shape")]
