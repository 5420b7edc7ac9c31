"""One timer for a deadline that moves often and is reached rarely."""

import asyncio
from collections.abc import Callable
from math import inf

__all__ = ["LazyTimer"]

# A loop's timer may fire this much before its time.
_EARLY_S = 0.001


class LazyTimer:
    """Calls `due` once when the deadline that was set last has come.

    To move the deadline away costs one assignment: the loop's timer stays, and is set again if it
    fires too early. `due` is called on time, and never after `cancel`.
    """

    __slots__ = ("_clock", "_deadline_s", "_due", "_fires_s", "_handle")

    def __init__(self, due: Callable[[], None], clock: Callable[[], float]) -> None:
        self._due = due
        self._clock = clock
        self._handle: asyncio.TimerHandle | None = None
        self._deadline_s = self._fires_s = inf

    @property
    def is_set(self) -> bool:
        return self._handle is not None

    def set(self, deadline_s: float) -> None:
        """Move the deadline, by the timer's clock."""
        self._deadline_s = deadline_s
        if self._handle is None or deadline_s < self._fires_s:
            self._arm()

    def cancel(self) -> None:
        self._deadline_s = inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._fires_s = self._deadline_s
        wait_s = max(0.0, self._deadline_s - self._clock())
        self._handle = asyncio.get_running_loop().call_later(wait_s, self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self._clock() + _EARLY_S < self._deadline_s:
            self._arm()
            return
        self._deadline_s = inf
        self._due()
