"""The steps of sequences that are under way in this gateway, in the order of their coming.

A sequence that moves must not have its steps reordered: while one is under way to where it was, none behind it may go
to where it is now.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic

__all__ = ["StepOrder", "Turn"]


class Turn:
    """One step's place in its sequence's line; `at` is the replica that it was sent to, empty before that."""

    def __init__(self) -> None:
        self.at = ""


class StepOrder:
    """The lines of all sequences, by their names in the fleet."""

    def __init__(self) -> None:
        self._lines: dict[str, list[Turn]] = {}
        self._changed = asyncio.Event()

    @contextmanager
    def join(self, name: str) -> Iterator[Turn]:
        line, turn = self._lines.setdefault(name, []), Turn()
        line.append(turn)
        try:
            yield turn
        finally:
            line.remove(turn)
            if not line:
                del self._lines[name]
            self.changed()

    def may_go(self, name: str, turn: Turn, replica: str) -> bool:
        """All steps before it that are not settled are at this replica, too."""
        line = self._lines[name]
        return all(before.at == replica for before in line[: line.index(turn)])

    def go(self, turn: Turn, replica: str) -> None:
        turn.at = replica
        self.changed()

    def changed(self) -> None:
        """Somebody who waits may go on now: they are woken in the order in which they began to wait."""
        self._changed.set()
        self._changed.clear()

    async def change(self, until_s: float) -> None:
        """Wait until something changes, or the time is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(until_s - monotonic()):
                await self._changed.wait()
