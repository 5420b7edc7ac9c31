"""The open connections of a listener, counted in all and for each address."""

import asyncio
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

__all__ = ["Peer", "Peers"]


class Peer(Hashable, Protocol):
    """A connection as its listener sees it."""

    @property
    def patience(self) -> tuple[bool, float] | None:
        """Connections with the least are cut off first; None while the caller is owed something."""
        ...

    def abort(self) -> None:
        """Cut it off now."""
        ...


C = TypeVar("C", bound=Peer)


class Peers(Generic[C]):
    """At most `limit` connections, and at most `limit_each` of one address.

    One more than that makes the connection with the least patience give way: callers who hold
    connections and send nothing keep nobody out.
    """

    def __init__(self, limit: int, limit_each: int) -> None:
        self._limit = limit
        self._limit_each = limit_each
        self._open: dict[C, str] = {}
        self._of_each: Counter[str] = Counter()
        self.is_draining = False  # for late comers: a handshake may end after the drain began
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def __iter__(self) -> Iterator[C]:
        return iter(tuple(self._open))

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: C, address: str) -> bool:
        """Count a connection in; False if there are too many and none gives way."""
        if self._of_each[address] >= self._limit_each:
            same = [one for one, its_address in self._open.items() if its_address == address]
            has_room = self._make_room(same)
        else:
            has_room = len(self._open) < self._limit or self._make_room(self)
        if has_room:
            self._open[connection] = address
            self._of_each[address] += 1
            self._is_empty.clear()
        return has_room

    def _make_room(self, among: Iterable[C]) -> bool:
        waiting = [(patience, one) for one in among if (patience := one.patience) is not None]
        if not waiting:
            return False
        _, first = min(waiting, key=itemgetter(0))
        self.leave(first)  # its own end comes a tick of the loop later
        first.abort()
        return True

    def leave(self, connection: C) -> None:
        """Count a connection out, if it is in."""
        if (address := self._open.pop(connection, None)) is not None:
            self._of_each[address] -= 1
            if not self._of_each[address]:
                del self._of_each[address]
            if not self._open:
                self._is_empty.set()

    async def empty(self) -> None:
        """Wait until no connection is open."""
        await self._is_empty.wait()
