"""Requests that nobody waits for any more, though a replica may still run them: one may yet be to blame."""

from collections.abc import Callable, Iterator
from time import monotonic

from headrace.inference.request import Request

__all__ = ["Withdrawn"]

# A run is stopped at ten times its usual time, which is long for a slow model. What is stopped still later than this
# has been forgotten here. And the most that are kept: the oldest go first.
STAY_S = 60.0
MOST, MOST_BYTES = 256, 32 << 20


class Withdrawn:
    """Requests by the ids of their Asks."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._kept: dict[int, tuple[float, Request]] = {}
        self._nbytes = 0

    def __iter__(self) -> Iterator[int]:
        return iter(self._kept)

    def put(self, ask_id: int, request: Request) -> None:
        self._kept[ask_id] = (self._clock() + STAY_S, request)
        self._nbytes += request.nbytes
        while len(self._kept) > MOST or self._nbytes > MOST_BYTES:
            self.pop(next(iter(self._kept)))

    def pop(self, ask_id: int) -> Request | None:
        kept = self._kept.pop(ask_id, None)
        if kept is None:
            return None
        self._nbytes -= kept[1].nbytes
        return kept[1]

    def clear(self) -> None:
        self._kept.clear()
        self._nbytes = 0

    def forget(self) -> None:
        """Drop what no news can come of any more."""
        now_s = self._clock()
        while self._kept and self._kept[oldest := next(iter(self._kept))][0] <= now_s:
            self.pop(oldest)
