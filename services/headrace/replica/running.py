"""Runs batches on a backend, and finds out whose fault it was when one fails. In the executor's thread."""

import logging
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic_ns
from typing import NamedTuple

import numpy as np

from headrace.backends import Backend, reason_without_values, refuses_inputs
from headrace.errors import BadRequest, HeadraceError, InferenceFailed, OutOfMemory, RunStopped
from headrace.replica.assembly import Part, join, length_of, rows_of, split_rows, take_rows
from headrace.replica.counters import Execution
from headrace_models.spec import ModelSpec

__all__ = ["Ran", "Runner"]

log = logging.getLogger(__name__)

# So few that a batch's base time counts for more than its rows.
_FEW = 16


class Ran(NamedTuple):
    """The outputs of one part, and the execution that gave them."""

    outputs: Part
    execution: Execution


class _Budget:
    """How many more runs a failed batch may cost: enough to find a handful of poisons, far from one for each part.

    None at all once it `is_stopped`: what does not end would not end in a smaller batch either. `are_refusals`: all
    that failed was inputs that do not fit, which callers may send as often as they like, and which fail soon.
    """

    def __init__(self, parts: int, is_stopped: Callable[[], bool]) -> None:
        self._is_stopped = is_stopped
        self._runs = 8 + 4 * parts.bit_length()
        self.are_refusals = True

    def check(self) -> None:
        if self._is_stopped():
            raise RunStopped("the model did not end on this batch")

    def take(self) -> bool:
        self._runs -= 1
        return self._runs >= 0


class Runner:
    """`safe_cells` is how large a batch may be since one found no room on the device: half of that."""

    def __init__(self, backend: Backend, spec: ModelSpec) -> None:
        self._backend = backend
        self._spec = spec
        self._is_batched = spec.is_batched
        names = [f'"{name}"' for name in spec.required_inputs]
        self._named_inputs = f"input{'s' * (len(names) > 1)} {', '.join(names)}"
        self.safe_cells = inf

    def run(self, parts: Sequence[Part], is_stopped: Callable[[], bool] = lambda: False) -> list[Ran | Exception]:
        """One batch. If it fails, smaller ones run until only the parts at fault fail: a stranger's harm nobody.

        With one part at fault that takes about the time of two more such batches. Where very many are refused for what
        they hold, the rest is run one by one. A request of a model that is served
        unbatched is a batch as it is. Raises RunStopped if it `is_stopped`.
        """
        budget = _Budget(len(parts), is_stopped)
        return self._run(parts, budget) if self._is_batched else [self._run_alone(part, budget) for part in parts]

    def _run(self, parts: Sequence[Part], budget: _Budget) -> list[Ran | Exception]:
        ran = self._try(parts, budget)
        if not isinstance(ran, Exception):
            return ran
        return [self._as_ours(ran, parts[0])] if len(parts) == 1 else self._search(parts, budget)

    def _try(self, parts: Sequence[Part], budget: _Budget) -> list[Ran | Exception] | Exception:
        """What becomes of each part, or the error that they failed with together."""
        budget.check()
        if not budget.take():
            if budget.are_refusals:
                return [self._run_one(part, budget) for part in parts]
            return [InferenceFailed("the model failed on this batch")] * len(parts)
        try:
            return list(self._run_together(parts))
        except (OutOfMemory, MemoryError):
            return self._run_smaller(parts, budget)
        except Exception as error:
            budget.check()
            budget.are_refusals &= refuses_inputs(error)
            return error

    def _run_one(self, part: Part, budget: _Budget) -> Ran | Exception:
        budget.check()
        try:
            return self._run_together([part])[0]
        except Exception as error:
            budget.check()
            return self._as_ours(error, part)

    def _search(self, parts: Sequence[Part], budget: _Budget) -> list[Ran | Exception]:
        """What becomes of parts that failed together: one at fault is sought, and then the others run in one batch.

        A few of the suspects are tried at a time: if they fail it is among them, and the rest waits for the end.
        """
        results: dict[int, Ran | Exception] = {}
        suspects, others = list(range(len(parts))), list[int]()
        while suspects:
            share = _share_of(len(suspects))
            few, rest = suspects[:share], suspects[share:]
            ran = self._try([parts[n] for n in few], budget)
            if not isinstance(ran, Exception):
                results.update(zip(few, ran, strict=True))
                suspects = rest
            elif len(few) > 1:
                suspects, others = few, rest + others
            else:
                results[few[0]] = self._as_ours(ran, parts[few[0]])
                suspects, others = [], rest + others
        if others:
            results.update(zip(others, self._run([parts[n] for n in others], budget), strict=True))
        return [results[n] for n in range(len(parts))]

    def _run_smaller(self, parts: Sequence[Part], budget: _Budget) -> list[Ran | Exception]:
        rows, cells = sum(map(rows_of, parts)), _cells_of(parts, self._spec)
        if rows == 1:
            return [OutOfMemory("the device has no room for one row of this length")]
        self.safe_cells = min(self.safe_cells, max(cells // 2, 1))
        log.warning("a batch of %d rows (%d cells) found no room: from now on at most half", rows, cells)
        if len(parts) > 1:
            half = len(parts) // 2
            return self._run(parts[:half], budget) + self._run(parts[half:], budget)
        return [_together([self._run([piece], budget)[0] for piece in split_rows(parts[0], -(-rows // 2))])]

    def _run_alone(self, part: Part, budget: _Budget) -> Ran | Exception:
        started_ns = monotonic_ns()
        try:
            outputs = self._backend.run({name: part[name].copy() for name in self._spec.input_names})
        except (OutOfMemory, MemoryError):
            return OutOfMemory("the device has no room for this request")
        except Exception as error:
            budget.check()
            return self._as_ours(error, part)
        return Ran(outputs, Execution(1, 0, monotonic_ns() - started_ns, 0))

    def _run_together(self, parts: Sequence[Part]) -> list[Ran]:
        rows = sum(map(rows_of, parts))
        started_ns = monotonic_ns()
        batch = join(parts, self._spec)
        joined_ns = monotonic_ns()
        outputs = self._backend.run(batch)
        ran_ns = monotonic_ns()
        for name, array in outputs.items():
            if len(array) != rows:
                raise InferenceFailed(f'the model gave {len(array)} rows of "{name}" for a batch of {rows}')
        taken = take_rows(outputs, parts, batch, self._spec)
        execution = Execution(rows, joined_ns - started_ns, ran_ns - joined_ns, monotonic_ns() - ran_ns)
        return [Ran(rows, execution) for rows in taken]

    def _as_ours(self, error: Exception, part: Part) -> HeadraceError:
        """What to tell whoever sent a part that failed alone."""
        if isinstance(error, BadRequest):
            return error
        shapes = {name: array.shape for name, array in part.items()}
        if refuses_inputs(error):  # in words of the runtime's, which are for the log alone
            log.info("inputs of the shapes %s were refused: %s", shapes, reason_without_values(error))
            return BadRequest(f"{self._named_inputs}: expected values and lengths that the model takes, found others")
        log.error("inputs of the shapes %s failed", shapes, exc_info=error)
        return error if isinstance(error, HeadraceError) else InferenceFailed("the model failed on this request")


def _share_of(suspects: int) -> int:
    """How many of them to try at once: less than half, since those who fail cost their time for nothing.

    Of a hundred with 20 ms a batch and 2 ms a row it takes 2.9 batches' time on average, 3.3 with halves.
    """
    return suspects // 3 if suspects > _FEW else max(1, suspects // 2)


def _cells_of(parts: Sequence[Part], spec: ModelSpec) -> int:
    """What a batch of these parts costs: all its rows at the length of the longest."""
    return sum(map(rows_of, parts)) * max(length_of(part, spec) for part in parts)


def _together(pieces: Sequence[Ran | Exception]) -> Ran | Exception:
    """The pieces of one part as the part; the first error, if one failed."""
    ran = []
    for piece in pieces:
        if isinstance(piece, Exception):
            return piece
        ran.append(piece)
    outputs = {name: np.concatenate([piece.outputs[name] for piece in ran]) for name in ran[0].outputs}
    return Ran(outputs, ran[0].execution)
