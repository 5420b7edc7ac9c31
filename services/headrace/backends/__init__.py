"""Backends run a loaded model; each runtime is imported when a model asks for it."""

from headrace.backends.contract import Backend, Stoppable
from headrace.backends.refused import reason_without_values, refuses_inputs
from headrace_models.repository import ModelVersion

__all__ = ["Backend", "Stoppable", "load", "reason_without_values", "refuses_inputs"]


def load(version: ModelVersion, name: str) -> Backend:
    """The model on the best device that is there. `name` is "onnx" or "torch", one of the spec's weights."""
    if name == "onnx":
        from headrace.backends.onnx import OnnxBackend

        return OnnxBackend(version)
    from headrace.backends.torch import TorchBackend

    return TorchBackend(version)
