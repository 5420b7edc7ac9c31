"""Runs batches on a backend, and finds out whose fault it was when one fails. In the executor's thread."""

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

__all__ = ["Ran", "Runner"]

log = logging.getLogger(__name__)

# So few that a batch's base time counts for more than its rows.
_FEW = 16
# Where one more was found at fault, so many times fewer of the rest are tried together.
_FEWER = 4
# A model that fails only on several requests at a time says so once in so many seconds.
_TELL_EVERY_S = 60.0


class Ran(NamedTuple):
    """The outputs of one part, and the execution that gave them."""

    outputs: Part
    execution: Execution


class Runner:
    """`safe_cells` is how large a batch may be since one found no room on the device: half of that."""

    def __init__(self, backend: Backend, spec: ModelSpec) -> None:
        self._backend = backend
        self._spec = spec
        self._is_batched = spec.is_batched
        names = [f'"{name}"' for name in spec.required_inputs]
        self._named_inputs = f"input{'s' * (len(names) > 1)} {', '.join(names)}"
        self.safe_cells = inf
        self._told_s = -inf

    def run(self, parts: Sequence[Part], tries: Tries) -> list[Ran | Exception]:
        """One batch. If it fails, smaller ones run until only the parts at fault fail: a stranger's harm nobody.

        With one part at fault that takes about the time of two more such batches. Where the `tries` have no time left,
        what did not run by then has failed. A request of a model that is served unbatched is a batch as it is.
        Raises RunStopped if a run was told to stop.
        """
        return (
            self._run(parts, tries)
            if self._is_batched
            else [self._run_alone(part, tries) for part in parts]
        )

    def _run(self, parts: Sequence[Part], tries: Tries) -> list[Ran | Exception]:
        ran = self._try(parts, tries)
        if not isinstance(ran, Exception):
            return ran
        if len(parts) == 1:
            return [self._as_ours(ran, parts[0])]
        results = self._search(parts, tries)
        if not any(isinstance(result, Exception) for result in results):
            self._tell_of_company(ran, len(parts))
        return results

    def _try(self, parts: Sequence[Part], tries: Tries) -> list[Ran | Exception] | Exception:
        """What becomes of each part, or the error that they failed with together."""
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

    def _search(self, parts: Sequence[Part], tries: Tries) -> list[Ran | Exception]:
        """What becomes of parts that failed together: one at fault is sought, and then the others run in one batch.

        A few of the `suspects` are tried at a time: if they fail it is among them. Each that is found makes it likelier
        that there are more, so that fewer are tried together next, and twice as many again while they succeed.
        """
        results = list[Ran | Exception]()
        suspects, most = (
            len(parts),
            _FEWER * len(parts),
        )  # it is among so many of those that are left; 0: nobody knows
        while left := parts[len(results) :]:
            few = left[: _share_of(suspects) if suspects else most]
            ran = self._try(few, tries)
            if isinstance(ran, Exception) and len(few) > 1:
                suspects = len(few)
                continue
            if isinstance(ran, Exception):
                ran, suspects = [self._as_ours(ran, few[0])], 1
            results += ran
            if not suspects:
                most *= 2
                continue
            suspects -= len(few)
            if not suspects:
                most = max(1, most // _FEWER)
        return results

    def _tell_of_company(self, error: Exception, parts: int) -> None:
        now_s = monotonic()
        if now_s - self._told_s >= _TELL_EVERY_S:
            self._told_s = now_s
            text = "%d requests failed together (%s), and none in smaller batches: is the model right in batches?"
            log.warning(text, parts, reason_without_values(error))

    def _run_smaller(self, parts: Sequence[Part], tries: Tries) -> list[Ran | Exception]:
        rows, cells = sum(map(rows_of, parts)), _cells_of(parts, self._spec)
        if rows == 1:
            return [OutOfMemory("the device has no room for one row of this length")]
        self.safe_cells = min(self.safe_cells, max(cells // 2, 1))
        log.warning(
            "a batch of %d rows (%d cells) found no room: from now on at most half", rows, cells
        )
        if len(parts) > 1:
            half = len(parts) // 2
            return self._run(parts[:half], tries) + self._run(parts[half:], tries)
        return [
            _together(
                [self._run([piece], tries)[0] for piece in split_rows(parts[0], -(-rows // 2))]
            )
        ]

    def _run_alone(self, part: Part, tries: Tries) -> Ran | Exception:
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
                raise InferenceFailed(
                    f'the model gave {len(array)} rows of "{name}" for a batch of {rows}'
                )
        taken = take_rows(outputs, parts, batch, self._spec)
        execution = Execution(
            rows, joined_ns - started_ns, ran_ns - joined_ns, monotonic_ns() - ran_ns
        )
        return [Ran(rows, execution) for rows in taken]

    def _as_ours(self, error: Exception, part: Part) -> HeadraceError:
        """What to tell whoever sent a part that failed alone."""
        if isinstance(error, BadRequest):
            return error
        shapes = {name: array.shape for name, array in part.items()}
        if refuses_inputs(error):  # in words of the runtime's, which are for the log alone
            log.info(
                "inputs of the shapes %s were refused: %s", shapes, reason_without_values(error)
            )
            return BadRequest(
                f"{self._named_inputs}: expected values and lengths that the model takes, found others"
            )
        log.error("inputs of the shapes %s failed", shapes, exc_info=error)
        return (
            error
            if isinstance(error, HeadraceError)
            else InferenceFailed("the model failed on this request")
        )


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
    outputs = {
        name: np.concatenate([piece.outputs[name] for piece in ran]) for name in ran[0].outputs
    }
    return Ran(outputs, ran[0].execution)
