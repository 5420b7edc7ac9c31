"""The order of each sequence's steps that are under way in this gateway.

The steps of a sequence that moves must not be reordered: while one is under way to the old replica,
none behind it may go to the new one.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic

__all__ = ["QueuedStep", "StepOrder"]


class QueuedStep:
    """A step under way; `replica` is the one that it was sent to, empty before that."""

    __slots__ = ("replica",)

    def __init__(self) -> None:
        self.replica = ""


class StepOrder:
    """The queues of all sequences, by their names in the fleet."""

    def __init__(self) -> None:
        self._queues: dict[str, list[QueuedStep]] = {}
        self._changed = asyncio.Event()

    @contextmanager
    def join(self, name: str) -> Iterator[QueuedStep]:
        queue = self._queues.setdefault(name, [])
        step = QueuedStep()
        queue.append(step)
        try:
            yield step
        finally:
            queue.remove(step)
            if not queue:
                del self._queues[name]
            self.notify()

    def may_go(self, name: str, step: QueuedStep, replica: str) -> bool:
        """All earlier steps that are under way went to this replica, too."""
        queue = self._queues[name]
        return all(earlier.replica == replica for earlier in queue[: queue.index(step)])

    def go(self, step: QueuedStep, replica: str) -> None:
        step.replica = replica
        self.notify()

    def notify(self) -> None:
        """Wake all who wait for a change, in the order in which they began to wait."""
        self._changed.set()
        self._changed.clear()

    async def wait_changed(self, until_s: float) -> None:
        """Wait for a change, or until the time is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(until_s - monotonic()):
                await self._changed.wait()
