"""The open connections of a listener, counted in all and for each address."""

import asyncio
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

__all__ = ["Peers"]

C = TypeVar("C", bound=Hashable)


class Peers(Generic[C]):
    """At most `limit` connections, and at most `limit_each` of one address."""

    def __init__(self, limit: int, limit_each: int) -> None:
        self._limit = limit
        self._limit_each = limit_each
        self._open: set[C] = set()
        self._of_each: Counter[str] = Counter()
        self.is_draining = False  # said to those who come in late: a handshake may end after the drain began
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def __iter__(self) -> Iterator[C]:
        return iter(tuple(self._open))

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: C, address: str) -> bool:
        """Count a connection in; False if that would be one too many."""
        if len(self._open) >= self._limit or self._of_each[address] >= self._limit_each:
            return False
        self._open.add(connection)
        self._is_empty.clear()
        self._of_each[address] += 1
        return True

    def leave(self, connection: C, address: str) -> None:
        """Count a connection out; one that was never in is passed over."""
        if connection in self._open:
            self._open.remove(connection)
            self._of_each[address] -= 1
            if not self._of_each[address]:
                del self._of_each[address]
            if not self._open:
                self._is_empty.set()

    async def empty(self) -> None:
        """Wait until none is open."""
        await self._is_empty.wait()
