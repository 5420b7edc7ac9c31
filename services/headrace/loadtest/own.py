"""Requests for any served model: its golden rows where its repository is at hand, else inputs that
are made up.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from headrace.inference.tensor import Array
from headrace.loadtest.server import request
from headrace.loadtest.shots import Shot, read_binary, tensors_shot
from headrace.loadtest.zoo import sound_version
from headrace_models.errors import ModelError
from headrace_models.golden import read_golden
from headrace_models.spec import DTYPES

__all__ = ["golden_shots", "made_up_shots"]

_MADE_UP, _SEED = 4, 1
_TEXTS = (
    "The train to the coast leaves at nine.",
    "wikipedia.org",
    "Order today!",
    "Water turns the wheel.",
)
# For an axis of any length beside the first, and integers that are small enough to be in most
# vocabularies.
_LENGTH, _INTEGERS = 16, 10
_MOST_ELEMENTS = 1 << 22
# A row's answer beside others may differ from that alone by this, on a GPU too.
_TOLERANCE = 1e-3


def golden_shots(url: str, model: str, repository: Path) -> Sequence[Shot]:
    """Each golden row, or all golden inputs at once if the model is served unbatched.

    Right is the golden answer, within the spec's own tolerances. Raises ModelError if `repository`
    does not have the version that is served.
    """
    version, served = (
        sound_version(repository, model),
        _described(url, model, "").get("versions", []),
    )
    if version.spec.version not in served[-1:]:
        raise ModelError(
            f"{repository} has version {version.spec.version} of {model}, the server {', '.join(served)}"
        )
    try:
        inputs, expected = read_golden(version)
    except (OSError, ValueError, LookupError, BadZipFile) as error:
        raise ModelError(f"{version.path(version.spec.golden)}: cannot be read: {error}") from None
    tolerance = max(version.spec.golden_tolerance, version.spec.batching.tolerance)
    if not _described(url, model, "/config").get("max_batch_size"):
        return [tensors_shot(model, inputs, expected, tolerance)]
    rows = range(min(map(len, inputs.values())))
    return [tensors_shot(model, _row(inputs, n), _row(expected, n), tolerance) for n in rows]


def made_up_shots(url: str, model: str) -> Sequence[Shot]:
    """Random inputs of the datatypes and shapes that its metadata lists; right is what it answers
    to each alone, now.

    Raises ModelError if it takes none of them: what its metadata does not list are the values that
    it can bear.
    """
    listed = _described(url, model, "").get("inputs", [])
    try:
        made_up = list(_made_up(listed))
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError(f"its metadata is none that inputs can be made of: {error!r}") from None
    return [_held_to_its_own(url, model, inputs) for inputs in made_up]


def _held_to_its_own(url: str, model: str, inputs: Mapping[str, Array]) -> Shot:
    shot = tensors_shot(model, inputs, None, _TOLERANCE)
    reply = request(url, shot.path, shot.headers, shot.body)
    if reply.status != 200:
        raise ModelError(
            f"inputs made from its metadata got {reply.reason}; golden rows need its repository"
        )
    # An answer that cannot be read now is asked for again under load, and counts as wrong there.
    return (
        tensors_shot(model, inputs, read_binary(reply.body)[1], _TOLERANCE)
        if shot.accepts(reply.body)
        else shot
    )


def _made_up(listed: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Array]]:
    random = np.random.default_rng(_SEED)
    for n in range(_MADE_UP):
        yield {
            i["name"]: _values(random, i["datatype"], _shape(i["shape"]), _TEXTS[n]) for i in listed
        }


def _shape(axes: Sequence[int]) -> tuple[int, ...]:
    """One row, and other open axes of one length."""
    shape = tuple(size if size >= 0 else _LENGTH if axis else 1 for axis, size in enumerate(axes))
    if math.prod(shape) > _MOST_ELEMENTS:
        raise ModelError(
            f"inputs of the shape {list(shape)} are too large to make up; golden rows need its repository"
        )
    return shape


def _values(random: np.random.Generator, datatype: str, shape: tuple[int, ...], text: str) -> Array:
    if datatype == "BYTES":
        return np.full(shape, text, object)
    dtype = DTYPES[datatype]
    if dtype.kind in "iu":
        return random.integers(0, _INTEGERS, shape).astype(dtype)
    return (
        random.random(shape) < 0.5
        if dtype.kind == "b"
        else random.standard_normal(shape).astype(dtype)
    )


def _row(arrays: Mapping[str, Array], n: int) -> dict[str, Array]:
    return {name: array[n : n + 1] for name, array in arrays.items()}


def _described(url: str, model: str, what: str) -> Mapping[str, Any]:
    reply = request(url, f"/v2/models/{model}{what}")
    if reply.status != 200:
        raise ModelError(f"its metadata cannot be read: {reply.reason}")
    return reply.document
