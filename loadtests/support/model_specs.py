"""Specs of models that have no files."""

from collections.abc import Mapping, Sequence
from typing import Any

from headrace_models.spec import ModelSpec

__all__ = ["DIGEST", "model_spec", "tensor_spec"]

# Stands for the SHA-256 of files that are never read.
DIGEST = "0" * 64


def tensor_spec(
    name: str, datatype: str = "FP32", shape: Sequence[int] = (1,), **more: object
) -> dict[str, object]:
    """An input or output as a spec's document has it."""
    return {"name": name, "datatype": datatype, "shape": list(shape), **more}


def model_spec(
    name: str = "tiny",
    version: str = "1",
    *,
    inputs: Sequence[Mapping[str, object]] = (tensor_spec("x"),),
    outputs: Sequence[Mapping[str, object]] = (tensor_spec("y"),),
    **more: object,
) -> ModelSpec:
    """A valid spec, by default of one number in and one number out; `more` holds further fields."""
    document: dict[str, Any] = {
        "name": name,
        "version": version,
        "weights": {"onnx": "m.onnx"},
        "golden": "g.npz",
        "inputs": inputs,
        "outputs": outputs,
        "files": {"m.onnx": DIGEST, "g.npz": DIGEST},
    }
    return ModelSpec.model_validate(document | more)
