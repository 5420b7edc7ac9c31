"""Requests whose callers have left: a replica may still run them, and they may still fail it."""

from collections.abc import Callable, Iterator
from time import monotonic

from headrace.inference.request import Request

__all__ = ["Withdrawn"]

# Ten times the usual run time, after which a run is stopped, is less than this for all but slow
# models.
STAY_S = 60.0
# The most requests and bytes that are remembered; the oldest are forgotten first.
MOST = 256
MOST_BYTES = 32 << 20


class Withdrawn:
    """Requests by the ids of their Asks."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._requests: dict[int, tuple[float, Request]] = {}  # with the time to forget each
        self._nbytes = 0

    def __iter__(self) -> Iterator[int]:
        return iter(self._requests)

    def put(self, ask_id: int, request: Request) -> None:
        self._requests[ask_id] = (self._clock() + STAY_S, request)
        self._nbytes += request.nbytes
        while len(self._requests) > MOST or self._nbytes > MOST_BYTES:
            self.pop(next(iter(self._requests)))

    def pop(self, ask_id: int) -> Request | None:
        found = self._requests.pop(ask_id, None)
        if found is None:
            return None
        _, request = found
        self._nbytes -= request.nbytes
        return request

    def clear(self) -> None:
        self._requests.clear()
        self._nbytes = 0

    def forget_old(self) -> None:
        """Drop the requests that it is too late to blame."""
        now_s = self._clock()
        while self._requests:
            oldest = next(iter(self._requests))
            if self._requests[oldest][0] > now_s:
                return
            self.pop(oldest)
