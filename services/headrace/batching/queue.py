"""The queue before the executor: fair between API keys, then by priority, deadline and age."""

from asyncio import Future
from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from itertools import count
from math import inf
from typing import Generic, NamedTuple, TypeVar

from headrace.errors import InferenceFailed

__all__ = ["DEFAULT_LEVEL", "PATIENCE_S", "Item", "Queue", "Result", "rank_s_of"]

DEFAULT_LEVEL = 10
# One level of priority weighs as much as this many seconds of waiting.
LEVEL_S = 1.0
# Within a priority the earliest deadline goes first, but a deadline further away than this counts
# as this far: so nobody is overtaken for longer by items in more of a hurry.
PATIENCE_S = 1.0

P = TypeVar("P")
R = TypeVar("R")


class Result(NamedTuple, Generic[R]):
    """An item's value and times, its batch's rows and the batch's share of padding, 0 to 1."""

    value: R
    queue_s: float
    compute_s: float
    batch_rows: int
    padding: float = 0.0


@dataclass(slots=True, eq=False, kw_only=True)
class Item(Generic[P, R]):
    """An item that waits. `rank_s` orders its key's queue; `serial` is 0 while it is in none."""

    payload: P
    rows: int
    length: int
    nbytes: int
    deadline_s: float
    group: Hashable
    key_id: str
    queued_s: float
    rank_s: float
    result: "Future[Result[R]]"
    serial: int = 0

    @property
    def cells(self) -> int:
        return self.rows * self.length

    def fail(self, error: Exception) -> None:
        """Resolve the item with an error, unless it is resolved already."""
        if isinstance(error, StopIteration):  # the one exception that no future takes
            error = InferenceFailed("the model failed on this batch")
        if not self.result.done():
            self.result.set_exception(error)


def rank_s_of(
    queued_s: float, deadline_s: float, level: int, patience_s: float = PATIENCE_S
) -> float:
    """The time at which an item would be due if all had the default priority."""
    return min(deadline_s, queued_s + patience_s) + (level - DEFAULT_LEVEL) * LEVEL_S


@dataclass(slots=True)
class _KeyQueue(Generic[P, R]):
    """The items of one API key, in order.

    `served` counts the cells that ran for the key. A new key starts with the least count of the
    others, not with 0: it would come first for too long.
    """

    served: float
    entries: list[tuple[float, int, Item[P, R]]] = field(default_factory=list)
    rows: int = 0
    cells: int = 0


class _Ahead(NamedTuple):
    """The rows and cells that would run before an item."""

    rows: float
    cells: float


class Queue(Generic[P, R]):
    """The items that wait, and their totals. `cells` are rows x length, without padding."""

    def __init__(self) -> None:
        self.rows = 0
        self.cells = 0
        self.nbytes = 0
        self._queues: dict[str, _KeyQueue[P, R]] = {}
        # What keys were served that have nothing here now, if that is more than the others were.
        self._served: dict[str, float] = {}
        self._serial = count(1)

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __iter__(self) -> Iterator[Item[P, R]]:
        return (item for queue in self._queues.values() for _, _, item in queue.entries)

    def in_order(self) -> Iterable[Item[P, R]]:
        """The items, next one of the key that was served least: a flood waits behind itself."""
        if len(self._queues) == 1:
            return iter(self)
        return self._merged()

    def _merged(self) -> Iterator[Item[P, R]]:
        # Of two keys served alike, the one with fewer items goes first: a newcomer.
        heap = [
            (queue.served, len(queue.entries), number, 0, queue.entries)
            for number, queue in enumerate(self._queues.values())
        ]
        heapify(heap)
        while heap:
            served, size, number, index, entries = heap[0]
            item = entries[index][2]
            yield item
            if index + 1 < len(entries):
                heapreplace(heap, (served + item.cells, size, number, index + 1, entries))
            else:
                heappop(heap)

    def add(self, item: Item[P, R]) -> None:
        queue = self._queues.get(item.key_id)
        if queue is None:
            least = min((q.served for q in self._queues.values()), default=0.0)
            served = max(least, self._served.pop(item.key_id, 0.0))
            queue = self._queues[item.key_id] = _KeyQueue(served)
        item.serial = next(self._serial)
        entry = (item.rank_s, item.serial, item)
        if queue.entries and entry < queue.entries[-1]:
            insort(queue.entries, entry)
        else:
            queue.entries.append(entry)
        self._count(queue, item, 1)

    def remove(self, item: Item[P, R], *, served: bool = False) -> bool:
        """Take an item out, because it is `served` or not; False if it was not in the queue."""
        if not item.serial:
            return False
        queue = self._queues[item.key_id]
        entries = queue.entries
        index = 0 if entries[0][2] is item else bisect_left(entries, (item.rank_s, item.serial))
        del entries[index]
        item.serial = 0
        self._count(queue, item, -1)
        if served:
            queue.served += item.cells
        if not entries:
            self._leave(item.key_id, queue)
        return True

    def _leave(self, key_id: str, queue: _KeyQueue[P, R]) -> None:
        """Drop an empty queue, but remember what its key was served: it might return at once."""
        del self._queues[key_id]
        self._served[key_id] = queue.served
        least = min((q.served for q in self._queues.values()), default=inf)
        self._served = {key: served for key, served in self._served.items() if served > least}

    def _count(self, queue: _KeyQueue[P, R], item: Item[P, R], sign: int) -> None:
        rows = sign * item.rows
        cells = sign * item.cells
        queue.rows += rows
        queue.cells += cells
        self.rows += rows
        self.cells += cells
        self.nbytes += sign * item.nbytes

    def ahead_of(self, item: Item[P, R]) -> _Ahead:
        """An estimate of what would run before this item, without a sum over all items."""
        rows = cells = 0.0
        if own := self._queues.get(item.key_id):
            share = bisect_left(own.entries, (item.rank_s, inf)) / len(own.entries)
            rows = own.rows * share
            cells = own.cells * share
        others = [queue for key, queue in self._queues.items() if key != item.key_id]
        return _Ahead(
            rows + sum(min(queue.rows, rows + item.rows) for queue in others),
            cells + sum(min(queue.cells, cells + item.cells) for queue in others),
        )

    def last_for(self, item: Item[P, R]) -> Item[P, R] | None:
        """The item that this one may displace, if any.

        That is the last of the longest queue, if it is another key's or ranks behind the item.
        """
        if not self._queues:
            return None
        key_id, longest = max(self._queues.items(), key=lambda pair: pair[1].rows)
        last = longest.entries[-1][2]
        if key_id == item.key_id:
            return last if last.rank_s > item.rank_s else None
        own = self._queues.get(item.key_id)
        own_rows = own.rows if own else 0
        return last if longest.rows > own_rows + item.rows else None
