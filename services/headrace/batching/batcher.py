"""The executor-aware batcher: a batch leaves when the executor is free, not when a timer ends.

While a batch runs, arrivals wait together and leave as the next one: load fills batches by itself,
and an idle server waits for nothing. The clock is injected, so tests run on a virtual one;
deadlines are on that clock. It is not the event loop's by default, since uvloop's has steps of a
millisecond.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from math import inf
from time import monotonic
from types import TracebackType
from typing import Generic, TypeVar

from headrace.batching.admission import Admission, Running
from headrace.batching.cost import Cost, CostModel
from headrace.batching.learning import Learner
from headrace.batching.policy import Limits, pick
from headrace.batching.queue import DEFAULT_LEVEL, Item, Queue, Result, rank_s_of
from headrace.batching.sizes import Sizes
from headrace.errors import DeadlineExceeded, HeadraceError, InferenceFailed, ShuttingDown
from headrace.process.lazy_timer import LazyTimer

__all__ = ["Batcher"]

# Deadlines as near to each other as this expire together: a look at the queue costs a step per
# item.
_TOGETHER_S = 0.001

P = TypeVar("P")
R = TypeVar("R")


class Batcher(Generic[P, R]):
    """Forms batches of items for `execute`, and gives each item its own result or error.

    `execute` takes the payloads of one batch and answers as many results, in order; a result that
    is an exception fails only its own item. Every accepted item is resolved: done, failed, expired,
    cancelled or shutting down.
    """

    def __init__(
        self,
        execute: Callable[[Sequence[P]], Awaitable[Sequence[R | Exception]]],
        limits: Limits,
        clock: Callable[[], float] = monotonic,
        cost: CostModel | None = None,
    ) -> None:
        self._clock = clock
        self._execute = execute
        self._limits = limits
        self.cost = cost or CostModel()
        self.sizes = Sizes(limits.least_gain)
        self._queue: Queue[P, R] = Queue()
        self._running = Running()
        self._admission = Admission(limits, self._queue, self._running, self.cost, self.sizes)
        self._learner = Learner(self.cost, self.sizes, limits.max_running)
        self._length = 0  # of the last item
        self._is_ragged = False
        self._is_open = False
        self._has_work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._expires_s = inf  # the earliest deadline in the queue, or an earlier time
        self._expiry = LazyTimer(self._expire, clock)
        self._workers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Batcher[P, R]":
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._limits.max_running)]
        self._is_open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_open = False
        for item in list(self._queue):
            item.fail(_shutting_down())
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._expiry.cancel()
        self._idle.set()

    @property
    def waiting_rows(self) -> int:
        return self._queue.rows

    @property
    def running_rows(self) -> int:
        return self._running.rows

    def limit_cells(self, cells: float) -> None:
        """Form no larger batch, since the device has no room for one; infinite for no limit."""
        self._running.max_cells = cells

    def wait_s(self) -> float:
        """Seconds until all that waits now has run, as far as the cost of batches is known."""
        return self._admission.wait_s(self._clock())

    async def drain(self) -> None:
        """Refuse new items and wait until every accepted one is resolved."""
        self._is_open = False
        await self._idle.wait()

    def submit(
        self,
        payload: P,
        *,
        rows: int,
        nbytes: int,
        deadline_s: float,
        length: int = 1,
        group: Hashable = None,
        priority: int = 0,
        key_id: str = "",
    ) -> "asyncio.Future[Result[R]]":
        """Join the queue; the future is resolved on every path, and cancelling it leaves the queue.

        rows: 1 to the limits' `max_rows`; all of them run in the same batch.
        nbytes: 0 or more; what the item holds while it waits.
        deadline_s: on the batcher's clock; an item that cannot finish by then does not run.
        length: cells of each row, 1 or more; a batch costs as if all rows had its largest length.
        group: only items of equal groups share a batch.
        priority: 1 is the highest, 0 means the default, 10; a level weighs as much as a second of
            waiting, so that nothing starves.
        key_id: keys share the executor fairly; a flood of one key waits behind itself.

        Raises at once: ShuttingDown; DeadlineExceeded if the model is too slow for the deadline;
        Overloaded if too much waits, for the deadline or at all; ValueError for too many rows.
        """
        if not self._is_open:
            raise _shutting_down()
        now_s = self._clock()
        result: asyncio.Future[Result[R]] = asyncio.get_running_loop().create_future()
        item = Item(
            payload=payload,
            rows=rows,
            length=length,
            nbytes=nbytes,
            deadline_s=deadline_s,
            group=group,
            key_id=key_id,
            queued_s=now_s,
            rank_s=rank_s_of(now_s, deadline_s, priority or DEFAULT_LEVEL, self._limits.patience_s),
            result=result,
        )
        for displaced, error in self._admission.admit(item, now_s):
            displaced.fail(error)
        self._is_ragged = self._is_ragged or length != (self._length or length)
        self._length = length
        self._queue.add(item)
        self._idle.clear()
        self._has_work.set()
        result.add_done_callback(lambda _: self._forget(item))
        if deadline_s < self._expires_s:
            self._expires_s = deadline_s
            self._expiry.set(deadline_s)
        return result

    async def _work(self) -> None:
        while True:
            batch = await self._next_batch()
            await self._run(batch)
            if self._queue:
                # An executor that never waits would keep the loop to itself until the queue is
                # empty.
                await asyncio.sleep(0)
            elif not self._running.rows:
                self._idle.set()

    async def _next_batch(self) -> list[Item[P, R]]:
        """Wait for items, and take those of the next batch out of the queue."""
        while True:
            await self._has_work.wait()
            now_s = self._clock()
            if self._expires_s <= now_s:
                self._expire()  # the loop was late: what has expired must not run
            cost = self.cost.at(now_s)
            batch, late = pick(
                self._queue.in_order(),
                self._limits.max_rows,
                self._most_cells(cost, now_s),
                cost,
                now_s,
                is_ragged=self._is_ragged,
            )
            for item in batch:
                self._queue.remove(item, served=True)
            for item in late:
                self._queue.remove(item)
                item.fail(DeadlineExceeded("the model can no longer finish before the deadline"))
            if not self._queue:
                self._has_work.clear()
            if not batch:
                self._learner.nobody_waits()
            # Those that were cancelled in this very tick are still in the queue.
            if wanted := [item for item in batch if not item.result.done()]:
                return wanted

    def _most_cells(self, cost: Cost | None, now_s: float) -> float:
        """The most cells of the next batch that fit on the device and are worth waiting for."""
        queue = self._queue
        max_cells = self._running.max_cells
        if queue.rows <= 1:  # nothing to choose
            return max_cells
        fitting = queue.cells * min(queue.rows, self._limits.max_rows) // queue.rows
        return min(max_cells, self.sizes.most(fitting, queue.cells // queue.rows, cost, now_s))

    async def _run(self, batch: list[Item[P, R]]) -> None:
        started_s = self._clock()
        self._learner.batch_starts(started_s)
        rows = sum(item.rows for item in batch)
        self._running.rows += rows
        self._running.free_s = started_s + self.cost.seconds(_cells(batch))
        results: Sequence[R | Exception]
        try:
            results = await self._execute([item.payload for item in batch])
            if len(results) != len(batch):
                raise InferenceFailed(
                    f"the executor: expected {len(batch)} results, found {len(results)}"
                )
        except HeadraceError as error:
            results = [error] * len(batch)
        except asyncio.CancelledError:
            for item in batch:
                item.fail(_shutting_down())
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return  # the executor was cancelled, not this worker
        except Exception as error:
            results = [InferenceFailed("the model failed on this batch")] * len(batch)
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a batch failed", "exception": error}
            )
        finally:
            self._running.rows -= rows
        self._resolve(batch, results, started_s, self._clock())

    def _resolve(
        self,
        batch: list[Item[P, R]],
        results: Sequence[R | Exception],
        started_s: float,
        ended_s: float,
    ) -> None:
        rows = sum(item.rows for item in batch)
        cells = _cells(batch)
        real_cells = sum(item.cells for item in batch)
        padding = 1 - real_cells / cells
        compute_s = ended_s - started_s
        has_failed = False
        for item, value in zip(batch, results, strict=True):
            if isinstance(value, Exception):
                item.fail(value)
                has_failed = True
            elif not item.result.done():
                item.result.set_result(
                    Result(
                        value=value,
                        queue_s=started_s - item.queued_s,
                        compute_s=compute_s,
                        batch_rows=rows,
                        padding=padding,
                    )
                )
        if not has_failed:
            self._learner.batch_succeeded(cells, real_cells, started_s, ended_s)
        self._learner.batch_ended(ended_s, is_waited_for=bool(self._queue))

    def _forget(self, item: Item[P, R]) -> None:
        """Take an item that was resolved out of the queue, if it still waited (cancelled)."""
        self._queue.remove(item)
        if not self._queue:
            self._learner.nobody_waits()
            if not self._running.rows:
                self._idle.set()

    def _expire(self) -> None:
        """Fail all that waited past their deadlines. One timer serves the whole queue."""
        now_s = self._clock() + _TOGETHER_S
        for item in [item for item in self._queue if item.deadline_s <= now_s]:
            item.fail(DeadlineExceeded("the deadline passed while the request waited for a batch"))
            self._queue.remove(item)
        self._expires_s = min((item.deadline_s for item in self._queue), default=inf)
        if self._queue:
            self._expiry.set(self._expires_s)


def _cells(batch: Sequence[Item[P, R]]) -> int:
    return sum(item.rows for item in batch) * max(item.length for item in batch)


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the model is shutting down", retry_after_s=1)
