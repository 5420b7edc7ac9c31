"""The warm-up of a loaded model: its golden answers are compared, and its spec is tried out."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import NamedTuple

import numpy as np

from headrace.backends import Backend
from headrace.errors import OutOfMemory, StartFailed
from headrace.inference.tensor import Array
from headrace.replica.assembly import Part, join, length_of, rows_of, split_rows, take_rows
from headrace_models.golden import difference, read_golden
from headrace_models.independence import SIZES, answers_alike, dependence
from headrace_models.repository import ModelVersion
from headrace_models.spec import InputSpec, ModelSpec

__all__ = ["warm_up"]

log = logging.getLogger(__name__)

# The error of TF32, which GPUs multiply in.
_GPU_TOLERANCE = 1e-3
# The error of attention over masked padding, which adds zeros in another order.
_PAD_TOLERANCE = 1e-4


class WarmedUp(NamedTuple):
    """The version as it is to be served, its golden inputs, cells and seconds of some batches."""

    version: ModelVersion
    golden: Part
    seen: list[tuple[int, float]]


def warm_up(backend: Backend, version: ModelVersion) -> WarmedUp:
    """Run the golden inputs, then time one row and a full batch.

    Raises StartFailed if the golden answer is wrong.

    Unless the spec says whether rows are independent, they are compared with the same rows beside
    others, up to a full batch, or a few if the model is slow. If that changes an answer, requests
    will run one at a time. A `pad` that changes answers is not used. A batch that was not compared
    runs once more before it is timed. If memory has no room for a full batch, half of it is a full
    one from now on.
    """
    inputs, expected = read_golden(version)
    _compare(backend.run(inputs), expected, version.spec)
    spec = version.spec
    while True:
        narrow = _Narrow(backend)
        found = _as_it_runs(narrow, inputs, spec)
        if not (narrow.lacked_rows and spec.is_batched and spec.batching.max_rows > 1):
            return WarmedUp(replace(version, spec=found.spec), inputs, found.seen)
        spec = spec.with_max_rows(max(1, narrow.lacked_rows // 2))
        most = spec.batching.max_rows
        log.warning(
            "%s %s: too little memory for a full batch: at most %d rows",
            spec.name,
            spec.version,
            most,
        )


class _Narrow:
    """A backend that remembers the fewest rows that memory had no room for; 0 if none."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.device = backend.device
        self.lanes = backend.lanes
        self.lacked_rows = 0

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        try:
            return self._backend.run(inputs)
        except (OutOfMemory, MemoryError):
            self.lacked_rows = min(self.lacked_rows or rows_of(inputs), rows_of(inputs))
            raise


class _Running(NamedTuple):
    """A spec that the model fulfils, and the cells and seconds of some of its batches."""

    spec: ModelSpec
    seen: list[tuple[int, float]]


def _as_it_runs(backend: _Narrow, inputs: Part, spec: ModelSpec) -> _Running:
    spec = _as_it_batches(backend, inputs, spec)
    try:
        return _Running(spec, _timed(backend, inputs, spec))
    except Exception as error:  # a runtime's errors share no base but Exception
        if not (_is_to_be_compared(spec) or backend.lacked_rows):
            raise
        spec = _one_at_a_time(backend, spec, f"a full batch fails ({error})")
        return _Running(spec, _timed(backend, inputs, spec))


def _one_at_a_time(backend: _Narrow, spec: ModelSpec, reason: str) -> ModelSpec:
    """The spec without batching; if memory lacked room, smaller batches are tried later."""
    if not backend.lacked_rows:
        log.warning("%s %s: %s; served one request at a time", spec.name, spec.version, reason)
    return spec.unbatched()


def _timed(backend: Backend, inputs: Part, spec: ModelSpec) -> list[tuple[int, float]]:
    # Comparing rows has run these batches, except a slow model's full one.
    is_warm = _is_to_be_compared(spec)
    seen = []
    for batch in _batches(inputs, spec):
        if not is_warm:
            backend.run(batch)
        started_s = monotonic()
        backend.run(batch)
        cells = length_of(batch, spec) * (rows_of(batch) if spec.is_batched else 1)
        seen.append((cells, monotonic() - started_s))
    return seen


def _as_it_batches(backend: _Narrow, inputs: Part, spec: ModelSpec) -> ModelSpec:
    """The spec without those promises about rows and padding that the model breaks."""
    if not spec.is_batched:
        return spec
    if _is_to_be_compared(spec):
        sizes = sorted(
            {min(size, spec.batching.max_rows) for size in (*SIZES, spec.batching.max_rows)}
        )
        if reason := dependence(backend.run, inputs, _tolerance(backend, spec), sizes):
            return _one_at_a_time(backend, spec, reason)
    if any(i.pad is not None for i in spec.inputs) and (
        reason := _pad_changes(backend, inputs, spec)
    ):
        log.warning(
            "%s %s: %s; only rows of equal shape share a batch", spec.name, spec.version, reason
        )
        return spec.unpadded()
    return spec


def _is_to_be_compared(spec: ModelSpec) -> bool:
    """True if rows would share a batch and the spec does not say whether they may."""
    return spec.is_batched and spec.batching.rows is None and spec.batching.max_rows > 1


def _tolerance(backend: Backend, spec: ModelSpec) -> float:
    return max(spec.batching.tolerance, _GPU_TOLERANCE if backend.device != "cpu" else 0.0)


def _pad_changes(backend: Backend, inputs: Part, spec: ModelSpec) -> str | None:
    """The change of a row's answer when it is padded beside a longer row; None if there is none."""
    row = split_rows(inputs, 1)[0]
    candidates = ((row, _resized(row, spec, 2)), (_resized(row, spec, 0.5), row))
    pairs = [(short, long) for short, long in candidates if _shapes(short) != _shapes(long)]
    differences = [_padded_differs(backend, short, long, spec) for short, long in pairs]
    tried = [name for name in differences if name is not None]
    if not tried:
        return "its padding could not be tried" if pairs else None
    changed = next(filter(None, tried), "")
    return f'padding changes output "{changed}" of a row' if changed else None


def _padded_differs(backend: Backend, short: Part, long: Part, spec: ModelSpec) -> str | None:
    """The output that padding changes; "" for none, None if the model refuses the length."""
    try:
        alone = backend.run(short)
        batch = join([short, long], spec)
        beside = take_rows(backend.run(batch), [short, long], batch, spec)[0]
    except Exception:  # a runtime's errors share no base but Exception
        return None
    allowed = max(_tolerance(backend, spec), _PAD_TOLERANCE)
    return next(
        (name for name in alone if not answers_alike(beside[name], alone[name], allowed)), ""
    )


def _shapes(part: Part) -> list[tuple[int, ...]]:
    return [array.shape for array in part.values()]


def _resized(row: Part, spec: ModelSpec, factor: float) -> Part:
    """The row repeated or cut, so that its padded axes are `factor` times as long."""
    return {
        i.name: _stretched(row[i.name], i, factor) if i.pad is not None else row[i.name]
        for i in spec.inputs
    }


def _stretched(array: Array, tensor: InputSpec, factor: float) -> Array:
    for axis, declared in enumerate(tensor.shape, start=1):
        held = array.shape[axis]
        wanted = _allowed(tensor, max(1, round(held * factor)), held) if declared == -1 else held
        array = np.take(array, np.arange(wanted) % held, axis=axis)
    return array


def _allowed(tensor: InputSpec, wanted: int, held: int) -> int:
    """The wanted length if the input may have it, otherwise one towards it."""
    if tensor.lengths:
        towards = [n for n in tensor.lengths if (n > held) == (wanted > held) and n != held]
        return min(towards, key=lambda n: abs(n - wanted), default=held)
    return min(wanted, tensor.max_length or wanted)


def _batches(inputs: Part, spec: ModelSpec) -> Sequence[Part]:
    if not spec.is_batched:
        return [inputs]
    one = split_rows(inputs, 1)[0]
    most = spec.batching.max_rows
    if most == 1:
        return [one]
    copies = -(-most // rows_of(inputs))
    return [one, {name: np.concatenate([a] * copies)[:most] for name, a in inputs.items()}]


def _compare(outputs: Mapping[str, Array], expected: Mapping[str, Array], spec: ModelSpec) -> None:
    for name, array in expected.items():
        if worst := difference(outputs[name], array, spec.golden_tolerance):
            raise StartFailed(
                f'{spec.name} {spec.version}: golden output "{name}": '
                f"expected within {spec.golden_tolerance}, found a difference of {worst:.3g}"
            )
