"""The executor-aware batcher: a batch leaves when the executor is free, not when a timer ends.

While one batch runs, arrivals wait together and leave as the next one: load fills batches by itself, and an idle
server waits for nothing. The clock is injected, so tests run on a virtual one; deadlines are on that clock. It is not
the event loop's by default, since uvloop's moves in steps of a millisecond.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Generic, TypeVar

from headrace.batching.policy import Limits, pick
from headrace.errors import DeadlineExceeded, HeadraceError, InferenceFailed, Overloaded, ShuttingDown

__all__ = ["Batcher", "Settled"]

# A loop's timer may fire this much before its time.
_TIMER_EARLY_S = 0.001
DEFAULT_LEVEL, LEVEL_S = 10, 1.0

P = TypeVar("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Settled(Generic[R]):
    """An item's result and its times in seconds."""

    result: R
    queue_s: float
    compute_s: float
    batch_rows: int


@dataclass(slots=True, eq=False)
class _Item(Generic[P, R]):
    payload: P
    rows: int
    nbytes: int
    deadline_s: float
    group: Hashable
    queued_s: float
    level: int
    answer: "asyncio.Future[Settled[R]]"

    @property
    def rank_s(self) -> float:
        """When it would have come if all had the same priority."""
        return self.queued_s + self.level * LEVEL_S


@dataclass(slots=True)
class _Line(Generic[P, R]):
    """The items in waiting, oldest first, and their totals; `favours` counts those not of the default priority."""

    items: dict[_Item[P, R], None] = field(default_factory=dict)
    rows: int = 0
    nbytes: int = 0
    favours: int = 0

    def in_order(self) -> Iterable[_Item[P, R]]:
        """By rank, which is the order of coming unless somebody asked for another priority."""
        return sorted(self.items, key=lambda item: item.rank_s) if self.favours else self.items

    def add(self, item: _Item[P, R]) -> None:
        self.items[item] = None
        self.rows += item.rows
        self.nbytes += item.nbytes
        self.favours += item.level != DEFAULT_LEVEL

    def remove(self, item: _Item[P, R]) -> bool:
        """Take an item out; False if it was not in the line any more."""
        if item not in self.items:
            return False
        del self.items[item]
        self.rows -= item.rows
        self.nbytes -= item.nbytes
        self.favours -= item.level != DEFAULT_LEVEL
        return True


class Batcher(Generic[P, R]):
    """Turns single items into batches for `execute`, and gives each item its own result, error and times.

    `execute` takes the payloads of one batch and answers as many results, in order; a result that is an exception
    fails only its own item. Every accepted item is settled: done, failed, expired, cancelled or shutting down.
    """

    def __init__(
        self,
        execute: Callable[[Sequence[P]], Awaitable[Sequence[R | Exception]]],
        limits: Limits,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._clock = clock
        self._execute = execute
        self._limits = limits
        self._line: _Line[P, R] = _Line()
        self._running_rows = 0
        self._has_work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._open = False
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_s = 0.0
        self._workers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Batcher[P, R]":
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._limits.max_running)]
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        for item in list(self._line.items):
            self._fail(item, ShuttingDown("the model is shutting down", retry_after_s=1))
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if self._sweep:
            self._sweep.cancel()
        self._idle.set()

    @property
    def waiting_rows(self) -> int:
        return self._line.rows

    @property
    def running_rows(self) -> int:
        return self._running_rows

    async def drain(self) -> None:
        """Refuse new items and wait until every accepted one is settled."""
        self._open = False
        await self._idle.wait()

    def ask(
        self, payload: P, *, rows: int, nbytes: int, deadline_s: float, group: Hashable = None, priority: int = 0
    ) -> "asyncio.Future[Settled[R]]":
        """Join the line; the future is settled on every path, and cancelling it leaves the line.

        `priority` 1 is the highest, larger is lower, 0 the default: each level is as good as LEVEL_S of waiting, so
        that nothing starves.

        Raises ShuttingDown, Overloaded or DeadlineExceeded at once, and ValueError for more rows than a batch has.
        """
        now_s = self._clock()
        self._admit(rows, nbytes, deadline_s, now_s)
        answer: asyncio.Future[Settled[R]] = asyncio.get_running_loop().create_future()
        item = _Item(payload, rows, nbytes, deadline_s, group, now_s, priority or DEFAULT_LEVEL, answer)
        self._line.add(item)
        self._idle.clear()
        self._has_work.set()
        item.answer.add_done_callback(lambda _: self._forget(item))
        if self._sweep is None or deadline_s < self._sweep_s:
            self._sweep_at(deadline_s)
        return item.answer

    def _admit(self, rows: int, nbytes: int, deadline_s: float, now_s: float) -> None:
        limits = self._limits
        if not self._open:
            raise ShuttingDown("the model is shutting down", retry_after_s=1)
        if rows > limits.max_rows:
            raise ValueError(f"an item has at most max_rows={limits.max_rows} rows, not {rows}")
        if deadline_s <= now_s:
            raise DeadlineExceeded("the deadline passed before the request could wait for a batch")
        if self._line.rows + rows > limits.max_waiting_rows or self._line.nbytes + nbytes > limits.max_waiting_bytes:
            raise Overloaded(f"{self._line.rows} rows wait already, at most {limits.max_waiting_rows}", retry_after_s=1)

    async def _work(self) -> None:
        while True:
            batch = await self._next_batch()
            await self._run(batch)
            if self._line.items:
                # An executor that never waits would else keep the loop to itself until the line is empty.
                await asyncio.sleep(0)
            elif not self._running_rows:
                self._idle.set()

    async def _next_batch(self) -> list[_Item[P, R]]:
        while True:
            await self._has_work.wait()
            if self._sweep is not None and self._sweep_s <= self._clock():
                self._expire()  # the loop was late: what has expired must not run
            batch = pick(self._line.in_order(), self._limits.max_rows)
            for item in batch:
                self._line.remove(item)
            if not self._line.items:
                self._has_work.clear()
            wanted = [item for item in batch if not item.answer.done()]  # cancelled in this very turn
            if wanted:
                return wanted

    async def _run(self, batch: list[_Item[P, R]]) -> None:
        started_s = self._clock()
        rows = sum(item.rows for item in batch)
        self._running_rows += rows
        try:
            results = await self._execute([item.payload for item in batch])
            if len(results) != len(batch):
                raise InferenceFailed(f"expected {len(batch)} results of the batch, found {len(results)}")
        except HeadraceError as error:
            results = [error] * len(batch)
        except asyncio.CancelledError:
            for item in batch:
                self._fail(item, ShuttingDown("the model is shutting down", retry_after_s=1))
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return  # the executor was cancelled, not this worker
        except Exception as error:
            results = [InferenceFailed("the model failed on this batch")] * len(batch)
            asyncio.get_running_loop().call_exception_handler({"message": "a batch failed", "exception": error})
        finally:
            self._running_rows -= rows
        compute_s = self._clock() - started_s
        for item, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                self._fail(item, result)
            elif not item.answer.done():
                item.answer.set_result(Settled(result, started_s - item.queued_s, compute_s, rows))

    def _fail(self, item: _Item[P, R], error: Exception) -> None:
        if isinstance(error, StopIteration):  # the one exception that no future takes
            error = InferenceFailed("the model failed on this batch")
        if not item.answer.done():
            item.answer.set_exception(error)

    def _forget(self, item: _Item[P, R]) -> None:
        """An item was settled; one that still waited (cancelled, expired) leaves the line."""
        self._line.remove(item)
        if not self._line.items and not self._running_rows:
            self._idle.set()

    def _sweep_at(self, when_s: float) -> None:
        if self._sweep:
            self._sweep.cancel()
        self._sweep_s = when_s
        self._sweep = asyncio.get_running_loop().call_later(max(0.0, when_s - self._clock()), self._expire)

    def _expire(self) -> None:
        """Fail all that waited past their deadline, then sleep until the next one. One timer serves the line."""
        now_s = self._clock() + _TIMER_EARLY_S
        self._sweep = None
        for item in [i for i in self._line.items if i.deadline_s <= now_s]:
            self._fail(item, DeadlineExceeded("the deadline passed while the request waited for a batch"))
            self._line.remove(item)
        if self._line.items:
            self._sweep_at(min(i.deadline_s for i in self._line.items))
