"""What an ONNX file says of itself that its runtime does not tell; read by the `onnx` package, which may be missing."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto

__all__ = ["read_graph", "shapeless_inputs", "weight_files"]


def read_graph(file: Path) -> "GraphProto | None":
    """The graph, without weights that are in other files; None without the package, or of what it cannot read."""
    try:
        import onnx
    except ImportError:
        return None
    try:
        return onnx.load(str(file), load_external_data=False).graph
    except Exception:  # protobuf's errors share no base; what is wrong with the file the runtime will say
        return None


def weight_files(graph: "GraphProto") -> list[str]:
    """The other files that its weights are in, as it names them."""
    named = {e.value for held in graph.initializer for e in held.external_data if e.key == "location"}
    return sorted(named)


def shapeless_inputs(graph: "GraphProto") -> list[str]:
    """The inputs of which it does not say how many axes they have."""
    return [value.name for value in graph.input if not value.type.tensor_type.HasField("shape")]
