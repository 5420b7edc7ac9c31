"""Requests for any served model: golden rows if its repository is at hand, or made-up inputs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from headrace.inference.tensor import Array
from headrace.loadtest.checked_request import CheckedRequest, read_binary, tensors_request
from headrace.loadtest.server import call
from headrace.loadtest.zoo import sound_version
from headrace_models.errors import ModelError
from headrace_models.golden import read_golden
from headrace_models.spec import DTYPES

__all__ = ["golden_requests", "made_up_requests"]

_MADE_UP = 4
_SEED = 1
_TEXTS = (
    "The train to the coast leaves at nine.",
    "wikipedia.org",
    "Order today!",
    "Water turns the wheel.",
)
# The length of open axes after the first.
_LENGTH = 16
# Integers below this are in most vocabularies.
_INTEGERS = 10
_MOST_ELEMENTS = 1 << 22
# A row's answer in a batch may differ by this from its answer alone, on a GPU too.
_TOLERANCE = 1e-3


def golden_requests(url: str, model: str, repository: Path) -> Sequence[CheckedRequest]:
    """A request for each golden row, or one with all of them if the model is served unbatched.

    The golden answer is right, within the spec's own tolerances. Raises ModelError if `repository`
    lacks the served version.
    """
    version = sound_version(repository, model)
    served = _metadata(url, model, "").get("versions", [])
    if version.spec.version not in served[-1:]:
        raise ModelError(
            f"{repository}: expected version {', '.join(served)} of {model}, as served, "
            f"found {version.spec.version}"
        )
    try:
        inputs, expected = read_golden(version)
    except (OSError, ValueError, LookupError, BadZipFile) as error:
        raise ModelError(f"cannot read {version.path(version.spec.golden)}: {error}") from None
    tolerance = max(version.spec.golden_tolerance, version.spec.batching.tolerance)
    if not _metadata(url, model, "/config").get("max_batch_size"):
        return [tensors_request(model, inputs, expected, tolerance)]
    rows = range(min(map(len, inputs.values())))
    return [tensors_request(model, _row(inputs, n), _row(expected, n), tolerance) for n in rows]


def made_up_requests(url: str, model: str) -> Sequence[CheckedRequest]:
    """Random inputs as a model's metadata describes; its answer to each alone is right.

    Raises ModelError if the model refuses them: metadata does not tell which values it accepts.
    """
    listed = _metadata(url, model, "").get("inputs", [])
    try:
        made_up = list(_made_up(listed))
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError(f"cannot make inputs from its metadata: {error!r}") from None
    return [_checked_by_itself(url, model, inputs) for inputs in made_up]


def _checked_by_itself(url: str, model: str, inputs: Mapping[str, Array]) -> CheckedRequest:
    request = tensors_request(model, inputs, None, _TOLERANCE)
    reply = call(url, request.path, request.headers, request.body)
    if reply.status != 200:
        raise ModelError(
            f"expected answers to inputs made from its metadata, found {reply.reason}; "
            "golden rows need its repository"
        )
    # An answer that cannot be read now counts as wrong under load.
    return (
        tensors_request(model, inputs, read_binary(reply.body)[1], _TOLERANCE)
        if request.accepts(reply.body)
        else request
    )


def _made_up(listed: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Array]]:
    random = np.random.default_rng(_SEED)
    for n in range(_MADE_UP):
        yield {
            i["name"]: _values(random, i["datatype"], _shape(i["shape"]), _TEXTS[n]) for i in listed
        }


def _shape(axes: Sequence[int]) -> tuple[int, ...]:
    """One row; other open axes get a fixed length."""
    shape = tuple(size if size >= 0 else _LENGTH if axis else 1 for axis, size in enumerate(axes))
    if math.prod(shape) > _MOST_ELEMENTS:
        raise ModelError(
            f"inputs of shape {list(shape)} are too large to make up; "
            "golden rows need its repository"
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


def _metadata(url: str, model: str, what: str) -> Mapping[str, Any]:
    reply = call(url, f"/v2/models/{model}{what}")
    if reply.status != 200:
        raise ModelError(f"cannot read its metadata: {reply.reason}")
    return reply.document
