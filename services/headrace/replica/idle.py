"""The idle sequences of a replica, and when they expire."""

from collections.abc import Callable, Collection
from itertools import takewhile

from headrace.inference.sequences import SequenceKey
from headrace.process.lazy_timer import LazyTimer

__all__ = ["IdleSequences"]


class IdleSequences:
    """Calls `expired` with sequences that were idle for `max_idle_s`, while `is_watching`."""

    def __init__(
        self,
        max_idle_s: float,
        clock: Callable[[], float],
        expired: Callable[[Collection[SequenceKey]], None],
        make_timer: type[LazyTimer] = LazyTimer,
    ) -> None:
        self._max_idle_s = max_idle_s
        self._clock = clock
        self._expired = expired
        self._until_s: dict[SequenceKey, float] = {}  # the longest idle first
        self._due_s = 0.0
        self._timer = make_timer(self._expire, clock)
        self.is_watching = False

    def close(self) -> None:
        self.is_watching = False
        self._timer.cancel()

    def add(self, key: SequenceKey) -> None:
        self._until_s[key] = self._clock() + self._max_idle_s
        # No sequence is due before those that came earlier. To look for the first of them at each
        # step would pass over all keys that were removed since the dict was last resized.
        if self.is_watching and not self._timer.is_set:
            self._watch_first()

    def discard(self, key: SequenceKey) -> None:
        self._until_s.pop(key, None)

    def _watch_first(self) -> None:
        self._due_s = next(iter(self._until_s.values()))
        self._timer.set(self._due_s)

    def _expire(self) -> None:
        now_s = max(self._clock(), self._due_s)  # the timer may be a little early
        expired = list(takewhile(lambda key: self._until_s[key] <= now_s, self._until_s))
        for key in expired:
            del self._until_s[key]
        if expired:
            self._expired(expired)
        if self._until_s:
            self._watch_first()
