"""Bounds the requests in a gateway process at once. Refusal is immediate."""

import asyncio
import math
from collections.abc import Callable
from time import monotonic

from headrace.errors import Overloaded, ShuttingDown
from headrace.gateway.settings import GatewayLimits

__all__ = ["Admission"]

# A key may take a slot while it holds fewer than this times the free ones: alone it gets three
# quarters of all slots, and less the more others hold.
_OWN_SHARE = 3
# The weight of the last slot that was left, in the mean time that slots are held.
_WEIGHT = 0.1
_MIN_RETRY_S, _MAX_RETRY_S = 1, 30


class Admission:
    """Counts the requests in flight: each holds a slot until it is answered.

    A `key_id` is empty where no key is needed. Once `is_ending` the gateway reports not ready, and
    still answers; once `is_draining` it takes nothing new. For one event loop.
    """

    def __init__(self, limits: GatewayLimits, clock: Callable[[], float] = monotonic) -> None:
        self.limits = limits
        self.in_flight = 0
        self.is_ending = False
        self.is_draining = False
        self._clock = clock
        self._held: dict[str, int] = {}  # by key; only of keys that hold a slot
        self._mean_s = 0.0
        self._entries_s = 0.0  # sum of the times at which those in flight entered

    async def wind_down(self, delay_s: float) -> None:
        """Report not ready, and after `delay_s`, in which balancers see that, take nothing new."""
        self.is_ending = True
        await asyncio.sleep(delay_s)
        self.is_draining = True

    def check(self, key_id: str = "") -> None:
        """Raises Overloaded or ShuttingDown at once if no request may enter now."""
        if self.is_draining:
            raise ShuttingDown("the gateway is shutting down", retry_after_s=1)
        self._check_room(key_id)

    def slot(self, key_id: str = "") -> "_Slot":
        """A slot, held while the context is entered."""
        return _Slot(self, key_id)

    def enter(self, key_id: str) -> float:
        """Take a slot; returns the time.

        Raises Overloaded at once, but not for a drain: a request that began to arrive before it is
        still answered.
        """
        self._check_room(key_id)
        now_s = self._clock()
        self.in_flight += 1
        self._entries_s += now_s
        if key_id:
            self._held[key_id] = self._held.get(key_id, 0) + 1
        return now_s

    def leave(self, key_id: str, entered_s: float) -> None:
        """Give back a slot that was taken at `entered_s`."""
        self.in_flight -= 1
        self._entries_s = self._entries_s - entered_s if self.in_flight else 0.0
        held_s = self._clock() - entered_s
        self._mean_s += _WEIGHT * (held_s - self._mean_s) if self._mean_s else held_s
        if key_id and self._held[key_id] == 1:
            del self._held[key_id]
        elif key_id:
            self._held[key_id] -= 1

    def _check_room(self, key_id: str) -> None:
        most = self.limits.max_in_flight
        free = most - self.in_flight
        own = self._held.get(key_id, 0)
        if free <= 0:
            raise Overloaded(
                f"{self.in_flight} requests are in flight, the most allowed", self._retry_after_s()
            )
        if own >= _OWN_SHARE * free:
            raise Overloaded(
                f"this key has {own} requests in flight, too many for one key "
                f"while the server has room for only {free} more",
                self._retry_after_s(),
            )

    def _retry_after_s(self) -> int:
        """The mean time that a slot is held, since everybody who is refused meanwhile returns too.

        The mean covers only those that left: if those in flight are older, their mean age counts.
        """
        age_s = self._clock() - self._entries_s / self.in_flight if self.in_flight else 0.0
        return min(_MAX_RETRY_S, max(_MIN_RETRY_S, math.ceil(max(self._mean_s, age_s))))


class _Slot:
    """A context manager, entered once."""

    __slots__ = ("_admission", "_entered_s", "_key_id")

    def __init__(self, admission: Admission, key_id: str) -> None:
        self._admission = admission
        self._key_id = key_id

    def __enter__(self) -> None:
        self._entered_s = self._admission.enter(self._key_id)

    def __exit__(self, *_: object) -> None:
        self._admission.leave(self._key_id, self._entered_s)
