"""Detects that the wall clock was set back.

Serve measures with it, and would wait until the old time comes again.

Ray 2 schedules a replica's health check by `time.time()`, a second after the last one. After the
clock was set back by an hour, it finds no dead replica for an hour.
"""

import time
from collections.abc import Callable

__all__ = ["WallClock"]

MIN_S = 1.0


class WallClock:
    """Compares the wall clock with one that only goes forward."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - the very clock that is watched
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._ahead_s = wall() - steady()

    def was_set_back(self) -> bool:
        """True if it was set back by a second or more since the last call."""
        before_s = self._ahead_s
        self._ahead_s = self._wall() - self._steady()
        return before_s - self._ahead_s >= MIN_S
