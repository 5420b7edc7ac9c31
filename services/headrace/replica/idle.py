"""Which sequences are idle, and for how long."""

import asyncio
from collections.abc import Callable, Collection
from itertools import takewhile

from headrace.channel import SequenceKey

__all__ = ["Idle"]

# A loop's timer may fire this much before its time.
_TIMER_EARLY_S = 0.001


class Idle:
    """Calls `expired` with the sequences that have been here for `max_idle_s`, while `is_watching`."""

    def __init__(
        self,
        max_idle_s: float,
        clock: Callable[[], float],
        expired: Callable[[Collection[SequenceKey]], None],
    ) -> None:
        self._max_idle_s = max_idle_s
        self._clock = clock
        self._expired = expired
        self._until_s: dict[SequenceKey, float] = {}  # the longest idle first
        self._sweep: asyncio.TimerHandle | None = None
        self.is_watching = False

    def close(self) -> None:
        self.is_watching = False
        if self._sweep:
            self._sweep.cancel()

    def add(self, key: SequenceKey) -> None:
        self._until_s[key] = self._clock() + self._max_idle_s
        if self._sweep is None and self.is_watching:
            self._sweep_later()

    def discard(self, key: SequenceKey) -> None:
        self._until_s.pop(key, None)

    def _sweep_later(self) -> None:
        """One timer serves all: it is set for the sequence that has been idle longest."""
        until_s = next(iter(self._until_s.values()))
        self._sweep = asyncio.get_running_loop().call_later(
            max(0.0, until_s - self._clock()), self._expire
        )

    def _expire(self) -> None:
        now_s = self._clock() + _TIMER_EARLY_S
        expired = list(takewhile(lambda key: self._until_s[key] <= now_s, self._until_s))
        for key in expired:
            del self._until_s[key]
        if expired:
            self._expired(expired)
        self._sweep = None
        if self._until_s:
            self._sweep_later()
