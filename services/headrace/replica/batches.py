"""Runs batches on the event loop or in the executor, each with an end, and proves from time to time that they can run.

A replica is as ready as its last successful inference is recent. What was in a run that was stopped is blamed here.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from time import monotonic
from typing import NamedTuple

from headrace.backends import Backend
from headrace.batching import CostModel, size_of
from headrace.errors import Blame, DeadlineExceeded, HeadraceError, Overloaded, RunStopped
from headrace.inference.request import Request
from headrace.replica.assembly import Part
from headrace.replica.running import Ran, Runner
from headrace.replica.tries import Tries
from headrace.replica.watch import Run, Watch
from headrace.telemetry.events import ReplicaEvents
from headrace_models.spec import ModelSpec

__all__ = ["Batches", "Piece"]

log = logging.getLogger(__name__)

# A replica that served nothing for PROVE_AFTER_S runs its golden row; ready means proven within PROOF_LIFE_S.
PROVE_AFTER_S = 4.0
PROOF_LIFE_S = 20.0
# A batch this short costs less than waking another thread twice, so it runs on the loop itself.
INLINE_BELOW_S = 0.002
# What is larger than anything seen is not given more than so many times longer for that.
_MOST_TIMES = 10.0


class Piece(NamedTuple):
    """What is in line: some rows of one length, and the request that they are of."""

    part: Part
    rows: int
    length: int
    request: Request


class Took:
    """What batches took that succeeded, by size: what was sound once is not found endless later."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._cells = self._longest = 1

    def saw(self, cells: int, longest: int, seconds: float) -> None:
        """A batch succeeded at once, whose longest row had so many cells. The last one of a size counts."""
        self._seconds[size_of(cells)] = seconds
        self._cells, self._longest = max(self._cells, cells), max(self._longest, longest)

    def at_most(self, cells: int, longest: int, expected_s: float) -> float:
        """What a sound batch may be expected to take: as much as one that was no smaller, and what is larger than all
        of them more in proportion, and once more for time that grows with the square, as attention's does.
        """
        size = size_of(cells)
        if cells <= self._cells and longest <= self._longest and size in self._seconds:
            return max(expected_s, self._seconds[size])
        as_large_s = next(
            (self._seconds[known] for known in sorted(self._seconds) if known >= size), 0.0
        )
        larger = min(_MOST_TIMES, max(1.0, cells / self._cells, longest / self._longest))
        if larger > 1.0 and self._seconds:
            as_large_s = larger * self._seconds[max(self._seconds)]
        return max(expected_s, as_large_s) * larger


class Batches:
    """The running half of a host, on its event loop. `cost` is what batches are believed to cost."""

    def __init__(
        self,
        backend: Backend,
        spec: ModelSpec,
        executor: Executor,
        cost: CostModel,
        events: ReplicaEvents,
    ) -> None:
        self._lanes = backend.lanes
        self._executor = executor
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._runner = Runner(backend, spec)
        self.watch = Watch(backend, self._say_who_ran, spec.batching.max_run_s)
        self._cost = cost
        self._proved_s = monotonic()
        self._is_quick = False  # the last batch was
        self._is_in_doubt = (
            asyncio.Event()
        )  # a run was stopped: the golden row is to say whether the model is sound
        self._in_executor: dict[Tries, asyncio.Future[list[Ran | Exception]]] = {}
        self.took = Took()

    @property
    def is_ready(self) -> bool:
        """An inference succeeded within the last PROOF_LIFE_S seconds."""
        return monotonic() - self._proved_s < PROOF_LIFE_S

    @property
    def safe_cells(self) -> float:
        return self._runner.safe_cells

    async def run(self, pieces: Sequence[Piece]) -> Sequence[Ran | Exception]:
        parts, rows, real_cells, longest, deadline_s = [], 0, 0, 1, 0.0
        for part, own_rows, length, request in pieces:
            parts.append(part)
            rows += own_rows
            real_cells += own_rows * length
            longest, deadline_s = max(longest, length), max(deadline_s, request.deadline_s)
        cells = rows * longest
        if started := pieces[0].request.started:  # it runs alone
            await started()
        started_s = monotonic()
        expected_s = self._cost.seconds(cells)
        tries = Tries(
            self.watch, self.took.at_most(cells, longest, expected_s), deadline_s, started_s
        )
        try:
            if self._is_quick and self._may_hold_the_loop and expected_s < INLINE_BELOW_S:
                results = self._runner.run(parts, tries)
            else:
                results = await self._run_in_executor(parts, tries)
        except RunStopped:
            raise self._stopped(tries, pieces, cells, monotonic() - started_s) from None
        finally:
            if (ended := pieces[0].request.ended) and not tries.are_doomed:
                ended()
            if tries.count > 1:
                self._events.batch_repeated(tries.count - 1)
        ended_s = monotonic()
        self._is_quick = ended_s - started_s < INLINE_BELOW_S
        if not all(isinstance(result, Exception) for result in results):
            self._proved_s = ended_s
            if tries.count == 1:
                self.took.saw(cells, longest, ended_s - started_s)
        self._events.batch_ran(rows, real_cells, cells - real_cells)
        return results

    @property
    def _may_hold_the_loop(self) -> bool:
        return self._lanes == 1 and self.watch.may_hold_the_loop

    async def _run_in_executor(self, parts: Sequence[Part], tries: Tries) -> list[Ran | Exception]:
        future = self._loop.run_in_executor(self._executor, self._runner.run, parts, tries)
        self._in_executor[tries] = future
        try:
            return await future
        finally:
            del self._in_executor[tries]

    def _stopped(
        self, tries: Tries, pieces: Sequence[Piece], cells: int, took_s: float
    ) -> HeadraceError:
        """What becomes of all pieces of a batch whose run was stopped; those who left are told here."""
        self._is_quick = False
        log.warning(
            "run %d of %d requests was stopped after %.1f s: %s",
            tries.count,
            len(pieces),
            took_s,
            tries.cause,
        )
        if tries.cause == "late":
            # Else a cost that is believed to be too small would never be mended, and each such run would be stopped.
            if tries.count == 1:
                self._cost.batch_ran(cells, cells, took_s, monotonic())
            return DeadlineExceeded("the run was stopped, as the time of all its callers was over")
        self._is_in_doubt.set()
        blame: Blame = (
            "certain" if all(piece.request is pieces[0].request for piece in pieces) else "possible"
        )
        error = RunStopped("the model did not end on this batch", retry_after_s=1, blame=blame)
        for piece in pieces:
            if piece.request.stopped:
                piece.request.stopped(piece.request, error)
        return error

    def _say_who_ran(self, run: Run) -> None:
        """The process is about to end: say who was in the run, if the loop is free to. In the watch's thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._give_up, run)

    def _give_up(self, run: Run) -> None:
        for tries, future in self._in_executor.items():
            if tries.last is run and not future.done():
                future.set_exception(RunStopped("the model did not end on this batch"))

    async def keep_proving(self, ask: Callable[[Request], Awaitable[object]]) -> None:
        """While nothing is asked, `ask` for a golden row now and then, so that "ready" is always a recent fact.

        And at once after a run that was stopped: if the model does not end on its golden row either, no older proof
        counts.
        """
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PROVE_AFTER_S):
                    await self._is_in_doubt.wait()
            if monotonic() - self._proved_s < PROVE_AFTER_S and not self._is_in_doubt.is_set():
                continue
            self._is_in_doubt.clear()
            try:  # alone: not in another's hands
                await ask(Request((), (), monotonic() + PROOF_LIFE_S, is_suspect=True))
            except RunStopped:
                log.error("the model does not end on its golden row: it is not ready")
                self._proved_s = float("-inf")
                self._is_in_doubt.clear()
            except (Overloaded, DeadlineExceeded) as error:  # what keeps it waiting proves as much
                log.warning("the golden row was not run: %s", error.message)
            except Exception as error:
                self._loop.call_exception_handler(
                    {"message": "the golden row failed", "exception": error}
                )
