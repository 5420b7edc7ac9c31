"""Admission to a queue: an item waits only if there is room and, as far as known, time."""

from dataclasses import dataclass
from math import inf
from typing import Generic, TypeVar

from headrace.batching.cost import Cost, CostModel
from headrace.batching.policy import Limits, rows_of_a_batch
from headrace.batching.queue import Item, Queue
from headrace.batching.sizes import Sizes
from headrace.errors import DeadlineExceeded, Overloaded

__all__ = ["Admission", "Running"]

# Safety margin on predicted waits. Without it, each pause of the machine would expire as many items
# of a queue that is full up to its deadlines as could have run in it, and answer those at the edge
# late.
_RESERVE = 0.1

P = TypeVar("P")
R = TypeVar("R")


@dataclass(slots=True)
class Running:
    """The work of the executor: `rows` run now and are expected to end at `free_s`.

    `max_cells` is the most cells of a batch that the device has room for, once that is known.
    """

    rows: int = 0
    free_s: float = 0.0
    max_cells: float = inf

    def left_s(self, now_s: float) -> float:
        return max(0.0, self.free_s - now_s) if self.rows else 0.0


class Admission(Generic[P, R]):
    """Predicts waits from the queue, the running batch and the cost of batches."""

    def __init__(
        self,
        limits: Limits,
        queue: Queue[P, R],
        running: Running,
        cost: CostModel,
        sizes: Sizes,
    ) -> None:
        self._limits = limits
        self._queue = queue
        self._running = running
        self._cost = cost
        self._sizes = sizes

    def wait_s(self, now_s: float, item: Item[P, R] | None = None) -> float:
        """Seconds until this item's batch starts; without an item, until all that waits has run."""
        cost = self._cost.at(now_s)
        left_s = self._running.left_s(now_s)
        queue = self._queue
        if cost is None or not queue:
            return left_s
        rows, cells = queue.ahead_of(item) if item else (queue.rows, queue.cells)
        if not rows:
            return left_s
        max_cells = min(self._running.max_cells, self._sizes.cells)
        batches = rows // rows_of_a_batch(cells / rows, self._limits.max_rows, max_cells)
        base_s = batches * (cost.base_s + self._cost.gap_s)
        run_s = base_s + cells * cost.cell_s * self._cost.padding
        return left_s + run_s / self._limits.max_running

    def admit(self, item: Item[P, R], now_s: float) -> list[tuple[Item[P, R], Overloaded]]:
        """Take items with less right to wait out of the queue as needed, each with its error.

        Raises ValueError for more rows than a batch has, DeadlineExceeded or Overloaded; then the
        queue is as it was.
        """
        most = self._limits.max_rows
        if item.rows > most:
            raise ValueError(f"an item has at most max_rows={most} rows, not {item.rows}")
        if item.deadline_s <= now_s:
            raise DeadlineExceeded("the deadline passed before the request could wait for a batch")
        if cost := self._cost.at(now_s):
            self._check_time(item, cost, now_s)
        return self._make_room(item, now_s)

    def _check_time(self, item: Item[P, R], cost: Cost, now_s: float) -> None:
        alone_s = cost.alone(item.cells)
        if now_s + alone_s > item.deadline_s:
            raise DeadlineExceeded(
                f"the model takes about {alone_s:.3g} s, which is more than the request allows"
            )
        longest_s = (1 + _RESERVE) * self._longest_wait_s(cost, now_s)
        if now_s + longest_s + alone_s + cost.margin_s <= item.deadline_s:
            return
        wait_s = (1 + _RESERVE) * self.wait_s(now_s, item)
        late_s = now_s + wait_s + alone_s + cost.margin_s - item.deadline_s
        if late_s > 0 and (self._running.rows or self._queue):
            raise Overloaded(
                f"{self._queue.rows} rows already wait, too many for the deadline",
                retry_after_s=late_s,
            )

    def _longest_wait_s(self, cost: Cost, now_s: float) -> float:
        """An upper bound of any item's wait, cheap to compute: most deadlines are far beyond it."""
        queue = self._queue
        base_s = queue.rows * (cost.base_s + self._cost.gap_s)
        run_s = base_s + queue.cells * cost.cell_s * self._cost.padding
        return self._running.left_s(now_s) + run_s

    def _make_room(self, item: Item[P, R], now_s: float) -> list[tuple[Item[P, R], Overloaded]]:
        limits, queue = self._limits, self._queue
        displaced: list[Item[P, R]] = []
        while (
            queue.rows + item.rows > limits.max_waiting_rows
            or queue.nbytes + item.nbytes > limits.max_waiting_bytes
        ):
            last = queue.last_for(item)
            if last is None:
                for one in reversed(displaced):
                    queue.add(one)
                raise self._full(now_s)
            queue.remove(last)
            displaced.append(last)
        return [(one, self._full(now_s)) for one in displaced] if displaced else []

    def _full(self, now_s: float) -> Overloaded:
        limits, queue = self._limits, self._queue
        return Overloaded(
            f"the model's queue is full ({queue.rows} rows, {queue.nbytes >> 20} MiB; "
            f"at most {limits.max_waiting_rows} rows, {limits.max_waiting_bytes >> 20} MiB); "
            "try again later",
            retry_after_s=self.wait_s(now_s),
        )
