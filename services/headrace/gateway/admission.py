"""At the endpoint: how many requests may be in the gateway at once, and how long one may take. Refusal is immediate."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from headrace.errors import Overloaded, ShuttingDown

__all__ = ["Admission", "GatewayLimits"]

# One key may hold places while it holds fewer than this times the free ones: alone it gets three quarters of all, and
# the more others hold, the less.
_OWN_SHARE = 3
# The weight of the last place that was left, in the mean of how long places are held.
_WEIGHT = 0.1
_MIN_RETRY_S, _MAX_RETRY_S = 1, 30


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """Bounds of one gateway process."""

    max_in_flight: int = 1024
    default_timeout_s: float = 30.0


class Admission:
    """Counts the requests in flight: each holds a place while it is answered. An `owner` is a key's id, empty if none.

    From `is_ending` on the gateway says that it is not ready, and answers as ever; from `is_draining` on it takes
    nothing new. For one event loop.
    """

    def __init__(self, limits: GatewayLimits, clock: Callable[[], float] = monotonic) -> None:
        self.limits = limits
        self.in_flight = 0
        self.is_ending = False
        self.is_draining = False
        self._clock = clock
        self._held: dict[str, int] = {}  # by owner; who holds none is not in it
        self._mean_s = 0.0
        self._entries_s = 0.0  # the sum of when those in flight came

    async def wind_down(self, delay_s: float) -> None:
        """Say "not ready", and take nothing new once balancers had `delay_s` to see that."""
        self.is_ending = True
        await asyncio.sleep(delay_s)
        self.is_draining = True

    def check(self, owner: str = "") -> None:
        """Raises Overloaded or ShuttingDown at once if no request may come in now."""
        if self.is_draining:
            raise ShuttingDown("the gateway is shutting down", retry_after_s=1)
        self._check_room(owner)

    def place(self, owner: str = "") -> "_Place":
        """A place, held while it is entered."""
        return _Place(self, owner)

    def enter(self, owner: str) -> float:
        """Take a place; gives when. Raises Overloaded at once; what began to arrive before a drain has its place."""
        self._check_room(owner)
        now_s = self._clock()
        self.in_flight += 1
        self._entries_s += now_s
        if owner:
            self._held[owner] = self._held.get(owner, 0) + 1
        return now_s

    def leave(self, owner: str, entered_s: float) -> None:
        """Give a place back that was taken at `entered_s`."""
        self.in_flight -= 1
        self._entries_s = self._entries_s - entered_s if self.in_flight else 0.0
        held_s = self._clock() - entered_s
        self._mean_s += _WEIGHT * (held_s - self._mean_s) if self._mean_s else held_s
        if owner and self._held[owner] == 1:
            del self._held[owner]
        elif owner:
            self._held[owner] -= 1

    def _check_room(self, owner: str) -> None:
        most = self.limits.max_in_flight
        free, own = most - self.in_flight, self._held.get(owner, 0)
        if free <= 0:
            raise Overloaded(
                f"{self.in_flight} requests are in flight, the most allowed", self._retry_after_s()
            )
        if own >= _OWN_SHARE * free:
            raise Overloaded(
                f"{own} requests of this key are in flight, and {free} places free: "
                f"expected fewer than {_OWN_SHARE} times as many",
                self._retry_after_s(),
            )

    def _retry_after_s(self) -> int:
        """When to come again: the mean time that a place is held, since all who are refused meanwhile come too.

        Those in flight may have been there for longer than that mean, as it knows only who left: then that counts.
        """
        age_s = self._clock() - self._entries_s / self.in_flight if self.in_flight else 0.0
        return min(_MAX_RETRY_S, max(_MIN_RETRY_S, math.ceil(max(self._mean_s, age_s))))


class _Place:
    """A context manager, entered once."""

    __slots__ = ("_admission", "_entered_s", "_owner")

    def __init__(self, admission: Admission, owner: str) -> None:
        self._admission = admission
        self._owner = owner

    def __enter__(self) -> None:
        self._entered_s = self._admission.enter(self._owner)

    def __exit__(self, *_: object) -> None:
        self._admission.leave(self._owner, self._entered_s)
