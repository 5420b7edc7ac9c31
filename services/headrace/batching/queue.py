"""The line before the executor: a queue for each API key, served fairly; within a key by priority, deadline and age."""

from asyncio import Future
from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from itertools import count
from math import inf
from typing import Generic, NamedTuple, TypeVar

__all__ = ["PATIENCE_S", "Ahead", "Item", "Queue", "Settled", "rank_s_of"]

DEFAULT_LEVEL, LEVEL_S = 10, 1.0
# Within a priority the earliest deadline goes first, but one further off counts as this far: so nobody is overtaken
# for longer by those who are in more of a hurry.
PATIENCE_S = 1.0

P = TypeVar("P")
R = TypeVar("R")


class Settled(NamedTuple, Generic[R]):
    """An item's result, its times in seconds, its batch's rows, and the share of the batch that was padding."""

    result: R
    queue_s: float
    compute_s: float
    batch_rows: int
    padding: float = 0.0


@dataclass(slots=True, eq=False)
class Item(Generic[P, R]):
    """One that waits. `rank_s` orders its key's queue; `serial` is 0 while it is in none."""

    payload: P
    rows: int
    length: int
    nbytes: int
    deadline_s: float
    group: Hashable
    key_id: str
    queued_s: float
    rank_s: float
    answer: "Future[Settled[R]]"
    serial: int = 0

    @property
    def cells(self) -> int:
        return self.rows * self.length


def rank_s_of(
    queued_s: float, deadline_s: float, level: int, patience_s: float = PATIENCE_S
) -> float:
    """When an item would be due if all had the default priority."""
    return min(deadline_s, queued_s + patience_s) + (level - DEFAULT_LEVEL) * LEVEL_S


@dataclass(slots=True)
class _KeyQueue(Generic[P, R]):
    """One API key's items in order, and the cells that it was served, counted from where the others were when it came."""

    served: float
    entries: list[tuple[float, int, Item[P, R]]] = field(default_factory=list)
    rows: int = 0
    cells: int = 0


class Ahead(NamedTuple):
    """What would run before an item."""

    rows: float
    cells: float


class Queue(Generic[P, R]):
    """The items in waiting and their totals. `cells` are rows x length, without padding."""

    def __init__(self) -> None:
        self.rows = self.nbytes = self.cells = 0
        self._queues: dict[str, _KeyQueue[P, R]] = {}
        self._left: dict[
            str, float
        ] = {}  # what those were served that have left and had more than the others
        self._serial = count(1)

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __iter__(self) -> Iterator[Item[P, R]]:
        return (item for queue in self._queues.values() for _, _, item in queue.entries)

    def in_order(self) -> Iterable[Item[P, R]]:
        """The next key is always the one that was served least: who floods waits behind its own."""
        if len(self._queues) == 1:
            return iter(self)
        return self._merged()

    def _merged(self) -> Iterator[Item[P, R]]:
        # Between two alike the one with less in waiting goes first: a newcomer.
        heap = [
            (q.served, len(q.entries), n, 0, q.entries) for n, q in enumerate(self._queues.values())
        ]
        heapify(heap)
        while heap:
            served, size, number, place, entries = heap[0]
            item = entries[place][2]
            yield item
            if place + 1 < len(entries):
                heapreplace(heap, (served + item.cells, size, number, place + 1, entries))
            else:
                heappop(heap)

    def add(self, item: Item[P, R]) -> None:
        queue = self._queues.get(item.key_id)
        if queue is None:
            least = min((q.served for q in self._queues.values()), default=0.0)
            queue = self._queues[item.key_id] = _KeyQueue(
                max(least, self._left.pop(item.key_id, 0.0))
            )
        item.serial = next(self._serial)
        entry = (item.rank_s, item.serial, item)
        if queue.entries and entry < queue.entries[-1]:
            insort(queue.entries, entry)
        else:
            queue.entries.append(entry)
        self._count(queue, item, 1)

    def remove(self, item: Item[P, R], *, served: bool = False) -> bool:
        """Take an item out, to be `served` or not; False if it was not in the line any more."""
        if not item.serial:
            return False
        queue = self._queues[item.key_id]
        entries = queue.entries
        place = 0 if entries[0][2] is item else bisect_left(entries, (item.rank_s, item.serial))
        del entries[place]
        item.serial = 0
        self._count(queue, item, -1)
        if served:
            queue.served += item.cells
        if not entries:
            self._leave(item.key_id, queue)
        return True

    def _leave(self, key_id: str, queue: _KeyQueue[P, R]) -> None:
        """Nothing of this key waits. Who comes again and again, and has been served more, is not first each time."""
        del self._queues[key_id]
        self._left[key_id] = queue.served
        least = min((q.served for q in self._queues.values()), default=inf)
        self._left = {key_id: served for key_id, served in self._left.items() if served > least}

    def _count(self, queue: _KeyQueue[P, R], item: Item[P, R], sign: int) -> None:
        rows, cells = sign * item.rows, sign * item.cells
        queue.rows += rows
        queue.cells += cells
        self.rows += rows
        self.cells += cells
        self.nbytes += sign * item.nbytes

    def ahead_of(self, item: Item[P, R]) -> Ahead:
        """What would run before this item if it came in: about, for queues are not added up one by one."""
        own = self._queues.get(item.key_id)
        share = bisect_left(own.entries, (item.rank_s, inf)) / len(own.entries) if own else 0.0
        rows, cells = (own.rows * share, own.cells * share) if own else (0.0, 0.0)
        others = [q for key_id, q in self._queues.items() if key_id != item.key_id]
        return Ahead(
            rows + sum(min(q.rows, rows + item.rows) for q in others),
            cells + sum(min(q.cells, cells + item.cells) for q in others),
        )

    def last_for(self, item: Item[P, R]) -> Item[P, R] | None:
        """Whom this item may displace: the last one of the longest queue, if that is another's, or ranks behind it."""
        key_id, queue = max(self._queues.items(), key=lambda pair: pair[1].rows, default=("", None))
        if queue is None:
            return None
        own = self._queues.get(item.key_id)
        last = queue.entries[-1][2]
        if key_id == item.key_id:
            return last if last.rank_s > item.rank_s else None
        return last if queue.rows > (own.rows if own else 0) + item.rows else None
