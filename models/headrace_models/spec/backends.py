"""The backends that a model's weights may be for, and Triton's names for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["BACKENDS", "BackendName"]

BackendName = Literal["onnx", "torch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBackend:
    triton_platform: str
    triton_backend: str


# Of every BackendName. `headrace/backends/NAME.py` runs its models.
BACKENDS: Mapping[BackendName, KnownBackend] = {
    "onnx": KnownBackend(triton_platform="onnxruntime_onnx", triton_backend="onnxruntime"),
    "torch": KnownBackend(triton_platform="pytorch_libtorch", triton_backend="pytorch"),
}
