"""Runs batches on the event loop or in the executor, and gives blame for what does not end."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from time import monotonic
from typing import NamedTuple

from headrace.backends import Backend
from headrace.batching import CostModel
from headrace.errors import Blame, DeadlineExceeded, HeadraceError, RunStopped
from headrace.inference.request import Request
from headrace.replica.assembly import Part
from headrace.replica.past_runs import PastRuns
from headrace.replica.readiness import Readiness
from headrace.replica.runner import PartResult, Runner
from headrace.replica.tries import Tries
from headrace.replica.watch import Run, Watch
from headrace.telemetry.events import ReplicaEvents
from headrace_models.spec import ModelSpec

__all__ = ["Batches", "Piece"]

log = logging.getLogger(__name__)

# A shorter batch costs less than waking another thread twice, so it runs on the loop itself.
INLINE_BELOW_S = 0.002


class Piece(NamedTuple):
    """An item of the batcher: some rows of one length, and the request that they are of."""

    part: Part
    rows: int
    length: int
    request: Request


class Batches:
    """The running half of a host, on its event loop. `cost` is the expected cost of batches."""

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
        self.watch = Watch(backend, self._report_endless, spec.batching.max_run_s)
        self.readiness = Readiness()
        self.past_runs = PastRuns()
        self._cost = cost
        self._is_quick = False  # the last batch was
        self._in_executor: dict[Tries, asyncio.Future[list[PartResult | Exception]]] = {}

    @property
    def safe_cells(self) -> float:
        """The most cells of a batch that the device has room for."""
        return self._runner.safe_cells

    async def run(self, pieces: Sequence[Piece]) -> Sequence[PartResult | Exception]:
        """Run one batch; the results, in order. Raises RunStopped or DeadlineExceeded."""
        parts = []
        rows = 0
        real_cells = 0
        longest = 1
        deadline_s = 0.0
        for part, own_rows, length, request in pieces:
            parts.append(part)
            rows += own_rows
            real_cells += own_rows * length
            longest = max(longest, length)
            deadline_s = max(deadline_s, request.deadline_s)
        cells = rows * longest
        first = pieces[0].request  # one that runs alone is the only one
        if first.started:
            await first.started()
        started_s = monotonic()
        expected_s = self._cost.seconds(cells)
        at_most_s = self.past_runs.at_most_s(cells, longest, expected_s)
        tries = Tries(self.watch, at_most_s, deadline_s, started_s)
        try:
            if self._is_quick and self._may_hold_the_loop and expected_s < INLINE_BELOW_S:
                results = self._runner.run(parts, tries)
            else:
                results = await self._run_in_executor(parts, tries)
        except RunStopped:
            raise self._stopped(tries, pieces, cells, monotonic() - started_s) from None
        finally:
            if first.ended and not tries.are_doomed:
                first.ended()
            if tries.count > 1:
                self._events.batch_repeated(tries.count - 1)
        ended_s = monotonic()
        self._is_quick = ended_s - started_s < INLINE_BELOW_S
        if not all(isinstance(result, Exception) for result in results):
            self.readiness.prove(ended_s)
            if tries.count == 1:
                self.past_runs.add(cells, longest, ended_s - started_s)
        self._events.batch_ran(rows, real_cells, cells - real_cells)
        return results

    @property
    def _may_hold_the_loop(self) -> bool:
        return self._lanes == 1 and self.watch.may_hold_the_loop

    async def _run_in_executor(
        self, parts: Sequence[Part], tries: Tries
    ) -> list[PartResult | Exception]:
        future = self._loop.run_in_executor(self._executor, self._runner.run, parts, tries)
        self._in_executor[tries] = future
        try:
            return await future
        finally:
            del self._in_executor[tries]

    def _stopped(
        self, tries: Tries, pieces: Sequence[Piece], cells: int, took_s: float
    ) -> HeadraceError:
        """The error of a batch whose run was stopped; reports it for withdrawn requests."""
        self._is_quick = False
        log.warning(
            "run %d of %d requests was stopped after %.1f s: %s",
            tries.count,
            len(pieces),
            took_s,
            tries.cause,
        )
        if tries.cause == "late":
            # Otherwise a cost that is too small would never be corrected, and every such run be
            # stopped.
            if tries.count == 1:
                self._cost.batch_ran(cells, cells, took_s, monotonic())
            return DeadlineExceeded("the run was stopped, as all its deadlines had passed")
        self.readiness.doubt()
        is_alone = all(piece.request is pieces[0].request for piece in pieces)
        blame: Blame = "certain" if is_alone else "possible"
        error = RunStopped(
            f"the model did not end on this batch, and was given up after {took_s:.1f} s",
            retry_after_s=1,
            blame=blame,
        )
        for piece in pieces:
            if piece.request.stopped:
                piece.request.stopped(piece.request, error)
        return error

    def _report_endless(self, run: Run) -> None:
        """Report the requests of a run before the process ends for it. In the watch's thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._give_up, run)

    def _give_up(self, run: Run) -> None:
        for tries, future in self._in_executor.items():
            if tries.last is run and not future.done():
                future.set_exception(RunStopped("the model did not end on this batch"))
