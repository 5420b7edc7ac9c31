"""An unknown ONNX model under trial: accepted sizes and values, rows, their independence."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from headrace_models.errors import BadSpec
from headrace_models.golden import difference
from headrace_models.independence import SIZES, SLOW_S, dependence
from headrace_models.onnx_run import runner
from headrace_models.reasons import sentence
from headrace_models.trials import (
    FILLINGS,
    LENGTHS,
    Arrays,
    Filling,
    Trial,
    axes_of,
    filled,
    trials,
)

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

__all__ = ["Candidate", "Found"]

_REPEATS_WITHIN = 1e-6
# The search for sizes that a model accepts and the comparison of its rows, alone and batched, end
# after this; at least one trial is made.
_SEARCH_S = 30.0
_COMPARE_S = 8.0
_MOST_ELEMENTS = 1 << 22
_GOLDEN_ROWS = 3
_COMPARED_ROWS = 8
# The largest batch that serving may form is tried too if a row takes no longer than this.
_QUICK_S = 0.01
_LARGE_BATCH = 64
# If a row takes longer, the comparison takes so long that the user is told.
_LONG_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Found:
    """Inputs that a model accepts: `trial`, with values of `filling`.

    `fixed` axes must have just that size. `bound` axes may have another size only together with
    the other axes of their size.
    """

    trial: Trial
    filling: Filling
    fixed: frozenset[str]
    bound: frozenset[str]


@dataclass(frozen=True)
class Candidate:
    """An opened model. Every method raises BadSpec at `where` if it is not fit to serve.

    `outputs` are the wanted ones.
    """

    session: "InferenceSession"
    outputs: "Sequence[NodeArg]"
    where: str

    @cached_property
    def inputs(self) -> "list[NodeArg]":
        return list(self.session.get_inputs())

    def find(self) -> Found:
        """Sizes and values that it accepts, with finite answers that are the same twice."""
        trial, filling = self._find_values()
        self._check_repeats(filled(self.inputs, trial, filling))
        alone = {axis for axis in trial.sizes if self._bears_another(trial, filling, [axis])}
        bound = {axis: _alike(axis, trial, alone) for axis in trial.sizes if axis not in alone}
        fixed = {
            axis for axis, mates in bound.items() if not self._bears_another(trial, filling, mates)
        }
        return Found(
            trial=trial,
            filling=filling,
            fixed=frozenset(fixed),
            bound=frozenset(bound.keys() - fixed),
        )

    def _find_values(self) -> tuple[Trial, Filling]:
        """The first sizes that it runs with, and values that it answers with finite numbers."""
        failed: Exception | None = None
        answered: Trial | None = None
        ends_s = monotonic() + _SEARCH_S
        for trial in trials(self.inputs):
            if (failed or answered) and monotonic() > ends_s:
                break
            failures = [self._fails(trial, filling) for filling in ("zeros", "positive")]
            failed = failed or failures[0]
            if all(failures):
                continue
            if filling := next(
                (f for f in FILLINGS if self._is_finite(filled(self.inputs, trial, f))), None
            ):
                return trial, filling
            answered = answered or trial
        if answered is None:
            assert failed is not None
            expected = "expected an answer to zeros or noise of some length"
            raise BadSpec(self.where, f"{expected}, found: {sentence(str(failed))}")
        answers = self.run(filled(self.inputs, answered, "zeros"))
        name = next(
            (name for name, values in answers.items() if not _finite(values)), next(iter(answers))
        )
        raise BadSpec(
            self.where, f'output "{name}": expected finite numbers for zeros or noise, found others'
        )

    def _fails(self, trial: Trial, filling: Filling) -> Exception | None:
        inputs = filled(self.inputs, trial, filling)
        if sum(array.size for array in inputs.values()) > _MOST_ELEMENTS:
            return ValueError("its inputs are too large to try")
        try:
            self.run(inputs)
        except Exception as error:  # ONNX Runtime's errors share no base but Exception
            return error
        return None

    def _is_finite(self, inputs: Arrays) -> bool:
        try:
            return all(map(_finite, self.run(inputs).values()))
        except Exception:  # noise may lie outside the model's range, which is not its fault
            return False

    def _check_repeats(self, inputs: Arrays) -> None:
        once, twice = self.run(inputs), self.run(inputs)
        for name in once:
            if difference(once[name], twice[name], _REPEATS_WITHIN):
                raise BadSpec(
                    self.where,
                    f'output "{name}": expected the same answer twice, found two answers',
                )

    def _bears_another(self, trial: Trial, filling: Filling, axes: Sequence[str]) -> bool:
        """It accepts another size of these axes, as the file claims of each."""
        return next(self._other_sizes(trial, filling, axes), None) is not None

    def _other_sizes(self, trial: Trial, filling: Filling, axes: Sequence[str]) -> Iterator[Trial]:
        """Trials that it accepts with another size of these axes, which all have one size."""
        held = trial.sizes[axes[0]]
        sizes = (held + 1, held * 2, *LENGTHS) if held > 2 else (1, 2, 3, *LENGTHS)
        for size in dict.fromkeys(sizes):
            other = replace(trial, sizes={**trial.sizes, **dict.fromkeys(axes, size)})
            if size != held and size <= max(held * 2, 640) and self._fails(other, filling) is None:
                yield other

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """All inputs by name -> the wanted outputs by name."""
        return runner(self.session, [value.name for value in self.outputs])(inputs)

    def rows_axes(self) -> dict[str, str | None]:
        """Input -> the axis that may be its rows; None if it has no free first axis."""
        axes = {value.name: axes_of(value) for value in self.inputs}
        return {name: a[0] if a and isinstance(a[0], str) else None for name, a in axes.items()}

    def with_rows(self, found: Found, rows: int, seed: int = 0) -> Arrays:
        """Its inputs with this many rows, as far as they have a free first axis."""
        sizes = found.trial.sizes
        firsts = {axis for axis in self.rows_axes().values() if axis and axis not in found.fixed}
        firsts |= {
            axis
            for axis in found.bound
            if sizes[axis] in {sizes[first] for first in firsts & found.bound}
        }
        trial = replace(found.trial, sizes={**sizes, **dict.fromkeys(firsts, rows)})
        return filled(self.inputs, trial, found.filling, seed)

    def golden_inputs(self, found: Found) -> Arrays:
        inputs = self.with_rows(found, _GOLDEN_ROWS)
        return (
            inputs if self._is_finite(inputs) else filled(self.inputs, found.trial, found.filling)
        )

    def why_unbatched(
        self, found: Found, tolerance: float, tell: Callable[[str], None]
    ) -> str | None:
        """The reason why its requests cannot share batches; None if its rows are independent."""
        for value, axis in zip(self.inputs, self.rows_axes().values(), strict=True):
            if axis is None and not value.shape:
                return (
                    f'input "{value.name}" is a scalar, '
                    "or the file does not say how many axes it has"
                )
            if axis is None:
                return (
                    f'input "{value.name}" has a first axis of {value.shape[0]}, '
                    "not one of any size for rows"
                )
            if axis in found.fixed:
                return (
                    f'input "{value.name}" accepts only {found.trial.sizes[axis]} on its first axis'
                )
        if found.filling == "zeros":
            return "it accepts nothing but zeros, so that its rows cannot be compared"
        return self._compare_rows(found, tolerance, tell)

    def _compare_rows(
        self, found: Found, tolerance: float, tell: Callable[[str], None]
    ) -> str | None:
        ends_s = monotonic() + _COMPARE_S
        for number, (trial, filling, seed) in enumerate(self._rounds(found)):
            if number and monotonic() > ends_s:
                break
            inputs = self.with_rows(
                replace(found, trial=trial, filling=filling), _COMPARED_ROWS, seed
            )
            row_s = self._time({name: array[:1] for name, array in inputs.items()})
            if not number and row_s > SLOW_S:
                tell(
                    f"a row takes {row_s:.1f} s: rows alone are compared only with 2 and 3 together"
                )
            elif not number and row_s > _LONG_S:
                tell("comparing rows alone with rows together; this takes some seconds")
            sizes = (*SIZES, _LARGE_BATCH) if row_s < _QUICK_S else SIZES
            if reason := dependence(self.run, inputs, tolerance, sizes):
                return reason
        return None

    def _time(self, inputs: Arrays) -> float:
        """The seconds of a run. A failure is ignored here: the comparison reports it."""
        started_s = monotonic()
        with suppress(Exception):
            self.run(inputs)
        return monotonic() - started_s

    def _rounds(self, found: Found) -> Iterator[tuple[Trial, Filling, int]]:
        """Sizes, values and seeds to compare rows with: those found, then others."""
        yield found.trial, found.filling, 1
        firsts = set(self.rows_axes().values())
        for axis in sorted(found.trial.sizes.keys() - firsts - found.fixed):
            axes = _alike(axis, found.trial) if axis in found.bound else [axis]
            if other := next(self._other_sizes(found.trial, found.filling, axes), None):
                yield other, found.filling, 2
        for filling in FILLINGS[:-1]:
            if filling != found.filling and self._is_finite(
                filled(self.inputs, found.trial, filling)
            ):
                yield found.trial, filling, 3
        yield found.trial, found.filling, 4


def _alike(axis: str, trial: Trial, without: Collection[str] = ()) -> list[str]:
    """The axes of the same size, this one included."""
    return [
        other
        for other, size in trial.sizes.items()
        if size == trial.sizes[axis] and other not in without
    ]


def _finite(values: npt.NDArray[Any]) -> bool:
    return values.dtype.kind == "O" or bool(np.isfinite(values).all())
