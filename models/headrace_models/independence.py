"""Tests by runs whether a model's rows are independent: a row answers alone as beside others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headrace_models.reasons import sentence

__all__ = ["SIZES", "SLOW_S", "Array", "Arrays", "answers_alike", "dependence"]

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]

# Batches that are compared with their rows alone; a runtime may use other kernels for larger ones.
SIZES = (2, 3, 8)
_MOST_ROWS = 8
# A row that takes longer than this, twice, is tried only beside one or two others.
SLOW_S = 1.0
_FEW_ROWS = 3
_LARGER = 100


class _Batch(NamedTuple):
    """A batch; the answers to the rows at `indices` are known, as those of row `own`."""

    inputs: Arrays
    own: Sequence[int]
    indices: Sequence[int]
    may_fail: bool = False


def dependence(
    run: Run, inputs: Arrays, tolerance: float, sizes: Sequence[int] = SIZES
) -> str | None:
    """The reason why rows may not share a batch; None if `inputs` answer alone as beside others.

    The rows run alone, in batches of `sizes`, in other orders, and beside rows that are 100 times
    larger; those of a slow model in batches of 2 and 3 only, as larger ones would take minutes.
    Answers are equal within `tolerance`, relative to the largest number of that output. `inputs`
    hold [n, *shape], n at least 1. No more rows than the largest size run together.
    """
    row = _taken(inputs, [0])
    started_s = monotonic()
    alone = [_try(run, row)]
    is_slow = monotonic() - started_s > SLOW_S and _is_slow(run, row)
    most = min(_rows_of(inputs), _FEW_ROWS if is_slow else _MOST_ROWS)
    alone += [_try(run, _taken(inputs, [n])) for n in range(1, most)]
    if failed := next((a for a in alone if isinstance(a, Exception)), None):
        return f"one row alone fails where several are answered ({sentence(str(failed))})"
    answers = [a for a in alone if not isinstance(a, Exception)]
    if reason := _no_rows(answers):
        return reason
    expected = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
    compared = [size for size in sizes if size <= _FEW_ROWS] if is_slow else sizes
    for batch in _batches(_taken(inputs, range(most)), compared):
        if reason := _differs(run, batch, expected, tolerance):
            return reason
    return None


def _is_slow(run: Run, row: Arrays) -> bool:
    """A second run is slow, too: a first one often is, as any on a busy machine."""
    started_s = monotonic()
    _try(run, row)
    return monotonic() - started_s > SLOW_S


def _no_rows(answers: Sequence[Arrays]) -> str | None:
    for name in answers[0]:
        shapes = [np.shape(answer[name]) for answer in answers]
        for shape in shapes:
            if shape[:1] != (1,):
                return f'output "{name}" has no rows: its shape is {list(shape)} for one row in'
        if len(set(shapes)) > 1:
            return f'the shape of output "{name}" depends on what is in a row'
    return None


def _batches(rows: Arrays, sizes: Sequence[int]) -> Iterator[_Batch]:
    n = _rows_of(rows)
    for size in sizes:
        own = [(size - 1 - index) % n for index in range(size)]
        yield _Batch(_taken(rows, own), own, range(size))
    if not sizes:
        return
    first, last = _taken(rows, [0]), _taken(rows, [n - 1])
    others = {name: _unlike(array[: max(1, max(sizes) - 2)]) for name, array in rows.items()}
    # Both ends: a state that runs through the rows reaches only those behind, or only those before.
    if max(sizes) > 2:
        yield _Batch(_joined(first, others, last), [0, n - 1], [0, -1], may_fail=True)
    else:
        yield _Batch(_joined(first, others), [0], [0], may_fail=True)
        yield _Batch(_joined(others, last), [n - 1], [1], may_fail=True)


def _unlike(rows: Array) -> Array:
    """Rows far from these: 100 times larger floats; other elements are moved to other indices."""
    if rows.dtype.kind == "f" or rows.dtype.name == "bfloat16":
        with np.errstate(over="ignore"):
            larger: Array = (rows * rows.dtype.type(_LARGER)).astype(rows.dtype)
            return larger
    return np.roll(rows, (1, 1), axis=(0, -1))


def _differs(run: Run, batch: _Batch, expected: Arrays, tolerance: float) -> str | None:
    found = _try(run, batch.inputs)
    rows = _rows_of(batch.inputs)
    if isinstance(found, Exception):
        return (
            None
            if batch.may_fail
            else f"{rows} rows at once fail where one is answered ({sentence(str(found))})"
        )
    for name, answers in expected.items():
        shape = np.shape(found[name])
        if shape[:1] != (rows,):
            return f'output "{name}" has no rows: its shape is {list(shape)} for {rows} rows in'
        if shape[1:] != answers.shape[1:]:
            return f'the shape of output "{name}" depends on the rows beside it'
        gap = _gap(
            found[name][list(batch.indices)], answers[list(batch.own)], tolerance * _size(answers)
        )
        if gap is not None:
            return f'output "{name}" of a row depends on the rows beside it{gap}'
    return None


def _gap(found: Array, expected: Array, allowed: float) -> str | None:
    """The distance of two answers, in words; None if it is allowed.

    Integers and texts must be equal.
    """
    if not _is_float(expected):
        return None if found.tolist() == expected.tolist() else ""
    ours, theirs = found.astype(np.float64), expected.astype(np.float64)
    if np.allclose(ours, theirs, rtol=0, atol=allowed, equal_nan=True):
        return None
    with np.errstate(invalid="ignore"):
        apart = np.abs(ours - theirs)
    return f" (differs by {np.nanmax(apart):.2g})" if np.isfinite(apart).any() else ""


def answers_alike(found: Array, expected: Array, tolerance: float) -> bool:
    """Two answers agree within `tolerance`, relative to the largest number of the expected one."""
    return (
        found.shape == expected.shape and _gap(found, expected, tolerance * _size(expected)) is None
    )


def _size(answers: Array) -> float:
    """The largest finite number, relative to which differences are judged."""
    if not _is_float(answers):
        return 0.0
    numbers = np.abs(answers.astype(np.float64))
    return float(np.max(numbers, initial=0.0, where=np.isfinite(numbers)))


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _try(run: Run, inputs: Arrays) -> Arrays | Exception:
    try:
        return run(inputs)
    except Exception as error:  # a runtime's errors share no base but Exception
        return error


def _rows_of(inputs: Arrays) -> int:
    return len(next(iter(inputs.values())))


def _taken(inputs: Arrays, rows: Sequence[int]) -> Arrays:
    return {name: array[list(rows)] for name, array in inputs.items()}


def _joined(*parts: Arrays) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
