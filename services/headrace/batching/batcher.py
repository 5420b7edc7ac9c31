"""The executor-aware batcher: a batch leaves when the executor is free, not when a timer ends.

While one batch runs, arrivals wait together and leave as the next one: load fills batches by itself, and an idle
server waits for nothing. The clock is injected, so tests run on a virtual one; deadlines are on that clock. It is not
the event loop's by default, since uvloop's moves in steps of a millisecond.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from math import inf
from time import monotonic
from types import TracebackType
from typing import Generic, NamedTuple, TypeVar

from headrace.batching.cost import Cost, CostModel
from headrace.batching.policy import Limits, pick, rows_of_a_batch
from headrace.batching.queue import DEFAULT_LEVEL, Item, Queue, Settled, rank_s_of
from headrace.batching.sizes import Sizes
from headrace.errors import (
    DeadlineExceeded,
    HeadraceError,
    InferenceFailed,
    Overloaded,
    ShuttingDown,
)

__all__ = ["Batcher"]

# A loop's timer may fire this much before its time.
_TIMER_EARLY_S = 0.001
# By how much a wait may turn out longer than was foreseen. In a line that is filled up to its deadlines each pause of
# the machine would else expire as many as could have run in it, and those at the edge would be answered too late.
_RESERVE = 0.1
# A batch that held the device for less of its time than this ended together with another one.
_HELD_SHARE = 0.1

P = TypeVar("P")
R = TypeVar("R")


class _Ran(NamedTuple):
    """A batch that ended: its time, and when that was over."""

    cells: int
    seconds: float
    ended_s: float


class Batcher(Generic[P, R]):
    """StepOrder single items into batches for `execute`, and gives each item its own result, error and times.

    `execute` takes the payloads of one batch and answers as many results, in order; a result that is an exception
    fails only its own item. Every accepted item is settled: done, failed, expired, cancelled or shutting down.
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
        self.max_cells = inf  # the most that the device has room for, once it is known
        self._line: Queue[P, R] = Queue()
        self._length = 0
        self._is_ragged = False
        self._running_rows = 0
        self._free_s = 0.0  # when the running batch is expected to end
        self._ended_s: float | None = None  # when the last batch ended, if items waited then
        self._ran: _Ran | None = None  # the last batch, until the next one begins
        self._freed_s = 0.0  # when any batch ended last
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
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = False
        for item in list(self._line):
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
    ) -> "asyncio.Future[Settled[R]]":
        """Join the line; the future is settled on every path, and cancelling it leaves the line.

        A batch costs as much as if all its rows had the `length` of its longest. `priority` 1 is the highest, larger is
        lower, 0 the default: each level is as good as a second of waiting, so that nothing starves. A key that
        floods the line waits behind itself, not before others.

        Raises at once: ShuttingDown, DeadlineExceeded if the model is too slow for the deadline, Overloaded if what
        waits is too much for it or leaves no room, and ValueError for more rows than a batch has.
        """
        now_s = self._clock()
        answer: asyncio.Future[Settled[R]] = asyncio.get_running_loop().create_future()
        rank_s = rank_s_of(now_s, deadline_s, priority or DEFAULT_LEVEL, self._limits.patience_s)
        item = Item(payload, rows, length, nbytes, deadline_s, group, key_id, now_s, rank_s, answer)
        self._admit(item, now_s)
        self._is_ragged = self._is_ragged or length != (self._length or length)
        self._length = length
        self._line.add(item)
        self._idle.clear()
        self._has_work.set()
        answer.add_done_callback(lambda _: self._forget(item))
        if self._sweep is None or deadline_s < self._sweep_s:
            self._sweep_at(deadline_s)
        return answer

    def wait_s(self, item: "Item[P, R] | None" = None) -> float:
        """How long until a batch with this item starts, by what is ahead of it; without one, by all that waits."""
        now_s = self._clock()
        cost = self.cost.at(now_s)
        left_s = max(0.0, self._free_s - now_s) if self._running_rows else 0.0
        if cost is None or not self._line:
            return left_s
        rows, cells = self._line.ahead_of(item) if item else (self._line.rows, self._line.cells)
        if not rows:
            return left_s
        max_cells = min(self.max_cells, self.sizes.cells)
        whole = rows // rows_of_a_batch(cells / rows, self._limits.max_rows, max_cells)
        run_s = whole * (cost.base_s + self.cost.turn_s) + cells * cost.cell_s * self.cost.padding
        return left_s + run_s / self._limits.max_running

    def _admit(self, item: Item[P, R], now_s: float) -> None:
        limits = self._limits
        if not self._open:
            raise ShuttingDown("the model is shutting down", retry_after_s=1)
        if item.rows > limits.max_rows:
            raise ValueError(
                f"an item has at most max_rows={limits.max_rows} rows, not {item.rows}"
            )
        if item.deadline_s <= now_s:
            raise DeadlineExceeded("the deadline passed before the request could wait for a batch")
        if cost := self.cost.at(now_s):
            self._check_time(item, cost, now_s)
        self._make_room(item)

    def _check_time(self, item: Item[P, R], cost: Cost, now_s: float) -> None:
        alone_s = cost.alone(item.cells)
        if now_s + alone_s > item.deadline_s:
            raise DeadlineExceeded(
                f"the model takes about {alone_s:.3g} s, which is more than the request allows"
            )
        if now_s + self._longest_wait_s(cost, now_s) + alone_s + cost.margin_s <= item.deadline_s:
            return
        wait_s = (1 + _RESERVE) * self.wait_s(item)
        late_s = now_s + wait_s + alone_s + cost.margin_s - item.deadline_s
        if late_s > 0 and (self._running_rows or self._line):
            raise Overloaded(
                f"{self._line.rows} rows wait already, too many for the deadline",
                retry_after_s=late_s,
            )

    def _longest_wait_s(self, cost: Cost, now_s: float) -> float:
        """More than any item would wait, at the price of some additions: most deadlines are far beyond it."""
        left_s = self._free_s - now_s if self._running_rows else 0.0
        run_s = (
            self._line.rows * (cost.base_s + self.cost.turn_s)
            + self._line.cells * cost.cell_s * self.cost.padding
        )
        return (1 + _RESERVE) * (max(0.0, left_s) + run_s)

    def _make_room(self, item: Item[P, R]) -> None:
        """Drop the last in line for this one, as many as it takes, if they have less right to wait.

        Raises Overloaded, and drops nobody, if they do not.
        """
        limits, line = self._limits, self._line
        dropped: list[Item[P, R]] = []
        while (
            line.rows + item.rows > limits.max_waiting_rows
            or line.nbytes + item.nbytes > limits.max_waiting_bytes
        ):
            last = line.last_for(item)
            if last is None:
                break
            line.remove(last)
            dropped.append(last)
        else:
            for one in dropped:
                self._fail(one, self._full())
            return
        for one in reversed(dropped):
            line.add(one)
        raise self._full()

    def _full(self) -> Overloaded:
        most = self._limits.max_waiting_rows
        return Overloaded(
            f"{self._line.rows} rows wait already, at most {most}", retry_after_s=self.wait_s()
        )

    async def _work(self) -> None:
        while True:
            batch = await self._next_batch()
            await self._run(batch)
            if self._line:
                # An executor that never waits would else keep the loop to itself until the line is empty.
                await asyncio.sleep(0)
            elif not self._running_rows:
                self._idle.set()

    async def _next_batch(self) -> list[Item[P, R]]:
        while True:
            await self._has_work.wait()
            now_s = self._clock()
            if self._sweep is not None and self._sweep_s <= now_s:
                self._expire()  # the loop was late: what has expired must not run
            line, cost, most_rows = (
                self._line.in_order(),
                self.cost.at(now_s),
                self._limits.max_rows,
            )
            max_cells = self._most_cells(cost, now_s)
            batch, late = pick(line, most_rows, max_cells, cost, now_s, is_ragged=self._is_ragged)
            for item in batch:
                self._line.remove(item, served=True)
            for item in late:
                self._line.remove(item)
                self._fail(
                    item,
                    DeadlineExceeded("the model could not finish before the deadline any more"),
                )
            if not self._line:
                self._has_work.clear()
            if not batch:
                self._ended_s = None  # nobody waited in the end
            wanted = [
                item for item in batch if not item.answer.done()
            ]  # cancelled in this very turn
            if wanted:
                return wanted

    def _most_cells(self, cost: Cost | None, now_s: float) -> float:
        """How large the next batch may be: what the device has room for, and what is worth it."""
        line = self._line
        if line.rows <= 1:  # nothing to choose
            return self.max_cells
        fitting = line.cells * min(line.rows, self._limits.max_rows) // line.rows
        return min(self.max_cells, self.sizes.most(fitting, line.cells // line.rows, cost, now_s))

    async def _run(self, batch: list[Item[P, R]]) -> None:
        started_s = self._clock()
        self._learn_turn(started_s)
        rows = sum(item.rows for item in batch)
        self._running_rows += rows
        self._free_s = started_s + self.cost.seconds(_cells(batch))
        results: Sequence[R | Exception]
        try:
            results = await self._execute([item.payload for item in batch])
            if len(results) != len(batch):
                raise InferenceFailed(
                    f"expected {len(batch)} results of the batch, found {len(results)}"
                )
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
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a batch failed", "exception": error}
            )
        finally:
            self._running_rows -= rows
        self._settle(batch, results, started_s, self._clock())

    def _learn_turn(self, started_s: float) -> None:
        """What passed since the last batch: part of its cost, and all of it if others waited meanwhile."""
        ended_s, self._ended_s = self._ended_s, None
        if ended_s is not None:
            self.cost.turn_took(started_s - ended_s)
        if self._ran is not None:
            ran, self._ran = self._ran, None
            turn_s = started_s - ran.ended_s
            self.sizes.ran(
                ran.cells,
                ran.seconds + (min(turn_s, self.cost.turn_s) if ended_s is None else turn_s),
                started_s,
            )

    def _learn_batch(self, cells: int, real_cells: int, started_s: float, ended_s: float) -> None:
        self.cost.batch_ran(cells, real_cells, ended_s - started_s, ended_s)
        if self._limits.max_running == 1:
            self._ran = _Ran(cells, ended_s - started_s, ended_s)
        else:  # it ran while another one did, and has begun to hold the device when that ended
            held_s = ended_s - max(started_s, self._freed_s)
            if held_s > _HELD_SHARE * (
                ended_s - started_s
            ):  # else both ended at a time, and this says nothing
                self.sizes.ran(cells, held_s, ended_s)

    def _settle(
        self,
        batch: list[Item[P, R]],
        results: Sequence[R | Exception],
        started_s: float,
        ended_s: float,
    ) -> None:
        self._ended_s = ended_s if self._line else None
        rows, cells, real_cells = (
            sum(item.rows for item in batch),
            _cells(batch),
            sum(item.cells for item in batch),
        )
        compute_s, padding, has_failed = ended_s - started_s, 1 - real_cells / cells, False
        for item, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                self._fail(item, result)
                has_failed = True
            elif not item.answer.done():
                item.answer.set_result(
                    Settled(result, started_s - item.queued_s, compute_s, rows, padding)
                )
        if not has_failed:
            self._learn_batch(cells, real_cells, started_s, ended_s)
        self._freed_s = ended_s

    def _fail(self, item: Item[P, R], error: Exception) -> None:
        if isinstance(error, StopIteration):  # the one exception that no future takes
            error = InferenceFailed("the model failed on this batch")
        if not item.answer.done():
            item.answer.set_exception(error)

    def _forget(self, item: Item[P, R]) -> None:
        """An item was settled; one that still waited (cancelled, expired) leaves the line."""
        self._line.remove(item)
        if not self._line:
            self._ended_s = None
            if not self._running_rows:
                self._idle.set()

    def _sweep_at(self, when_s: float) -> None:
        if self._sweep:
            self._sweep.cancel()
        self._sweep_s = when_s
        self._sweep = asyncio.get_running_loop().call_later(
            max(0.0, when_s - self._clock()), self._expire
        )

    def _expire(self) -> None:
        """Fail all that waited past their deadline, then sleep until the next one. One timer serves the line."""
        now_s = self._clock() + _TIMER_EARLY_S
        if self._sweep:
            self._sweep.cancel()
        self._sweep = None
        for item in [i for i in self._line if i.deadline_s <= now_s]:
            self._fail(
                item, DeadlineExceeded("the deadline passed while the request waited for a batch")
            )
            self._line.remove(item)
        if self._line:
            self._sweep_at(min(i.deadline_s for i in self._line))


def _cells(batch: Sequence[Item[P, R]]) -> int:
    return sum(item.rows for item in batch) * max(item.length for item in batch)
