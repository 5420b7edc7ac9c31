"""Whether the machine's wall clock was set back: Serve goes by it, and waits then until the old time has come again.

By Ray 2's `time.time()` a check of a replica's health is due a second after the last one. Set back by an hour, it finds
no dead replica for an hour.
"""

import time
from collections.abc import Callable

__all__ = ["WallClock"]

MIN_S = 1.0


class WallClock:
    """Compares the wall clock with one that only goes forward."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - it is the one that is looked at
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._steady = wall, steady
        self._ahead_s = self._difference_s()

    def was_set_back(self) -> bool:
        """Whether it was, by a second or more, since this was asked last."""
        before_s, self._ahead_s = self._ahead_s, self._difference_s()
        return before_s - self._ahead_s >= MIN_S

    def _difference_s(self) -> float:
        return self._wall() - self._steady()
