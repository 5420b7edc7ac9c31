"""Golden inputs and outputs, by which a version proves itself, in one file without pickles."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace_models.repository import ModelVersion
from headrace_models.spec import DTYPES, InputSpec, OutputSpec

__all__ = ["difference", "read_golden", "save_golden"]

Arrays = Mapping[str, npt.NDArray[Any]]


def save_golden(path: Path, inputs: Arrays, outputs: Arrays) -> None:
    """Write both to `path`. Texts may not end in NUL, which numpy's fixed-width strings drop."""
    arrays = {f"input:{name}": _storable(values) for name, values in inputs.items()}
    arrays |= {f"output:{name}": _storable(values) for name, values in outputs.items()}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def read_golden(
    version: ModelVersion,
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
    """Inputs and outputs [n, *shape] by name, in their spec's datatypes.

    BYTES are objects that are `bytes`.
    """
    spec = version.spec
    with np.load(version.path(spec.golden), allow_pickle=False) as saved:
        return _restored("input", spec.inputs, saved), _restored("output", spec.outputs, saved)


def difference(found: npt.NDArray[Any], expected: npt.NDArray[Any], tolerance: float) -> float:
    """The worst difference of two answers; 0 if all lie within `tolerance`, relative or absolute.

    Texts must match.
    """
    if found.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind == "O":
        return 0.0 if _raw(found) == _raw(expected) else float("inf")
    ours, theirs = found.astype(np.float64), expected.astype(np.float64)
    if np.allclose(ours, theirs, rtol=tolerance, atol=tolerance, equal_nan=True):
        return 0.0
    with np.errstate(invalid="ignore"):
        return float(np.max(np.abs(ours - theirs)))


def _storable(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values in a dtype that numpy's file format knows."""
    if values.dtype.kind == "O":
        return np.array(_raw(values), np.bytes_).reshape(values.shape)
    return values.view(np.uint16) if values.dtype == DTYPES["BF16"] else values


def _restored(
    side: str, tensors: Sequence[InputSpec | OutputSpec], saved: Arrays
) -> dict[str, npt.NDArray[Any]]:
    return {
        tensor.name: _as_datatype(saved[f"{side}:{tensor.name}"], tensor.datatype)
        for tensor in tensors
    }


def _as_datatype(values: npt.NDArray[Any], datatype: str) -> npt.NDArray[Any]:
    if datatype == "BYTES":
        return values.astype(object)
    return values.view(DTYPES["BF16"]) if datatype == "BF16" else values


def _raw(values: npt.NDArray[Any]) -> list[bytes]:
    return [element.encode() if isinstance(element, str) else element for element in values.ravel()]
