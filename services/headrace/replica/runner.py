"""Runs batches on a backend, in the executor's threads; if one fails, finds the parts at fault.

`Batches`, on the event loop, decides where a batch runs and whom to blame if it does not end.
`Runner`, here, makes the runs that it takes: one, or more to find the parts at fault.
`Tries` counts these runs, and ends the search when its time is over.
`Watch` stops a run that takes too long, and ends the process if it cannot.
`PastRuns` tells how long a sound batch may take, from which the watch has its limits.
"""

import logging
from collections.abc import Sequence
from math import inf
from time import monotonic, monotonic_ns
from typing import NamedTuple

import numpy as np

from headrace.backends import Backend, reason_without_values, refuses_inputs
from headrace.errors import BadRequest, HeadraceError, InferenceFailed, OutOfMemory
from headrace.replica.assembly import Part, join, length_of, rows_of, split_rows, take_rows
from headrace.replica.counters import Execution
from headrace.replica.tries import Tries
from headrace_models.spec import ModelSpec

__all__ = ["PartResult", "Runner"]

log = logging.getLogger(__name__)

# With no more undecided parts than this, a batch's base time counts for more than its rows.
_FEW = 16
# After another part was found at fault, this many times fewer of the rest are tried together.
_FEWER = 4
# A model that fails only on several requests at a time is logged once in this many seconds.
_LOG_EVERY_S = 60.0


class PartResult(NamedTuple):
    """The outputs of one part, and the execution that it ran in."""

    outputs: Part
    execution: Execution


class Runner:
    """Runs batches. After one found no room on the device, `safe_cells` is half its size."""

    def __init__(self, backend: Backend, spec: ModelSpec) -> None:
        self._backend = backend
        self._spec = spec
        self._is_batched = spec.is_batched
        names = [f'"{name}"' for name in spec.required_inputs]
        self._named_inputs = f"{'inputs' if len(names) > 1 else 'input'} {', '.join(names)}"
        self.safe_cells = inf
        self._logged_s = -inf

    def run(self, parts: Sequence[Part], tries: Tries) -> list[PartResult | Exception]:
        """Run a batch. If it fails, run smaller ones, until only the parts at fault fail.

        With one part at fault, that takes about the time of two more such batches. When the `tries`
        have no time left, the parts that did not run fail. Without batching, each part runs alone.
        Raises RunStopped if a run was told to stop.
        """
        if self._is_batched:
            return self._run(parts, tries)
        return [self._run_alone(part, tries) for part in parts]

    def _run(self, parts: Sequence[Part], tries: Tries) -> list[PartResult | Exception]:
        ran = self._try(parts, tries)
        if not isinstance(ran, Exception):
            return ran
        if len(parts) == 1:
            return [self._as_ours(ran, parts[0])]
        results = self._search(parts, tries)
        if not any(isinstance(result, Exception) for result in results):
            self._log_failure_together(ran, len(parts))
        return results

    def _try(self, parts: Sequence[Part], tries: Tries) -> list[PartResult | Exception] | Exception:
        """The result of each part, or the error that they failed with together."""
        if tries.are_over:
            late = InferenceFailed(
                "the model failed on this batch, and had no time for each request alone"
            )
            return [late] * len(parts)
        try:
            with tries.begin():
                return list(self._run_together(parts))
        except (OutOfMemory, MemoryError):
            return self._run_smaller(parts, tries)
        except Exception as error:
            tries.check()
            return error

    def _search(self, parts: Sequence[Part], tries: Tries) -> list[PartResult | Exception]:
        """The results of parts that failed together.

        The next `undecided` parts are known to have one at fault. A few of them are tried at a
        time: if they fail, it is among them. Each one found makes more of them likelier, so fewer
        are tried together next, and twice as many again while they succeed.
        """
        results = list[PartResult | Exception]()
        undecided = len(parts)  # 0 if it is unknown whether any of the rest is at fault
        most = _FEWER * len(parts)
        while left := parts[len(results) :]:
            few = left[: _share_of(undecided) if undecided else most]
            ran = self._try(few, tries)
            if isinstance(ran, Exception) and len(few) > 1:
                undecided = len(few)
                continue
            if isinstance(ran, Exception):
                ran = [self._as_ours(ran, few[0])]
                undecided = 1
            results += ran
            if not undecided:
                most *= 2
                continue
            undecided -= len(few)
            if not undecided:
                most = max(1, most // _FEWER)
        return results

    def _log_failure_together(self, error: Exception, parts: int) -> None:
        now_s = monotonic()
        if now_s - self._logged_s >= _LOG_EVERY_S:
            self._logged_s = now_s
            log.warning(
                "%d requests failed together (%s), and none in smaller batches: "
                'if this goes on, set a lower max_rows or rows = "none" in its model.toml',
                parts,
                reason_without_values(error),
            )

    def _run_smaller(self, parts: Sequence[Part], tries: Tries) -> list[PartResult | Exception]:
        rows = sum(map(rows_of, parts))
        cells = _cells_of(parts, self._spec)
        if rows == 1:
            return [OutOfMemory("the device has no room for one row of this length")]
        self.safe_cells = min(self.safe_cells, max(cells // 2, 1))
        log.warning(
            "a batch of %d rows (%d cells) found no room on the device: at most half from now on",
            rows,
            cells,
        )
        if len(parts) > 1:
            half = len(parts) // 2
            return self._run(parts[:half], tries) + self._run(parts[half:], tries)
        return [
            _together(
                [self._run([piece], tries)[0] for piece in split_rows(parts[0], -(-rows // 2))]
            )
        ]

    def _run_alone(self, part: Part, tries: Tries) -> PartResult | Exception:
        started_ns = monotonic_ns()
        try:
            with tries.begin():
                outputs = self._backend.run(
                    {name: part[name].copy() for name in self._spec.input_names}
                )
        except (OutOfMemory, MemoryError):
            return OutOfMemory("the device has no room for this request")
        except Exception as error:
            tries.check()
            return self._as_ours(error, part)
        infer_ns = monotonic_ns() - started_ns
        return PartResult(outputs, Execution(rows=1, input_ns=0, infer_ns=infer_ns, output_ns=0))

    def _run_together(self, parts: Sequence[Part]) -> list[PartResult]:
        rows = sum(map(rows_of, parts))
        started_ns = monotonic_ns()
        batch = join(parts, self._spec)
        joined_ns = monotonic_ns()
        outputs = self._backend.run(batch)
        ran_ns = monotonic_ns()
        for name, array in outputs.items():
            if len(array) != rows:
                raise InferenceFailed(
                    f'the model gave {len(array)} rows of "{name}" for a batch of {rows}'
                )
        taken = take_rows(outputs, parts, batch, self._spec)
        execution = Execution(
            rows=rows,
            input_ns=joined_ns - started_ns,
            infer_ns=ran_ns - joined_ns,
            output_ns=monotonic_ns() - ran_ns,
        )
        return [PartResult(part_outputs, execution) for part_outputs in taken]

    def _as_ours(self, error: Exception, part: Part) -> HeadraceError:
        """The error for the caller of a part that failed alone."""
        if isinstance(error, BadRequest):
            return error
        shapes = {name: array.shape for name, array in part.items()}
        if refuses_inputs(error):  # the runtime's own words are for the log alone
            log.info(
                "inputs of the shapes %s were refused: %s", shapes, reason_without_values(error)
            )
            return BadRequest(
                f"{self._named_inputs}: expected values and lengths that the model takes, "
                "found others"
            )
        log.error("inputs of the shapes %s failed", shapes, exc_info=error)
        return (
            error
            if isinstance(error, HeadraceError)
            else InferenceFailed("the model failed on this request")
        )


def _share_of(undecided: int) -> int:
    """The number of parts to try at once: less than half, since a batch that fails is lost time.

    For a hundred parts with 20 ms a batch and 2 ms a row, thirds take the time of 2.9 batches on
    average, halves that of 3.3.
    """
    return undecided // 3 if undecided > _FEW else max(1, undecided // 2)


def _cells_of(parts: Sequence[Part], spec: ModelSpec) -> int:
    """The cells of a batch of these parts: all its rows at the length of the longest one."""
    return sum(map(rows_of, parts)) * max(length_of(part, spec) for part in parts)


def _together(pieces: Sequence[PartResult | Exception]) -> PartResult | Exception:
    """Join the pieces of one part; the first error if one failed."""
    ran = []
    for piece in pieces:
        if isinstance(piece, Exception):
            return piece
        ran.append(piece)
    outputs = {
        name: np.concatenate([piece.outputs[name] for piece in ran]) for name in ran[0].outputs
    }
    return PartResult(outputs, ran[0].execution)
