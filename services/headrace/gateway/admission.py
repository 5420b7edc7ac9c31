"""At the door: how many requests may be in the gateway at once, and how long one may take. Refusal is immediate."""

from dataclasses import dataclass

from headrace.errors import Overloaded, ShuttingDown

__all__ = ["Admission", "DoorLimits"]


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """Bounds of one gateway process."""

    max_in_flight: int = 1024
    default_timeout_s: float = 30.0


class Admission:
    """Counts the requests in flight: each enters it, and leaves it once it is answered."""

    def __init__(self, limits: DoorLimits) -> None:
        self.limits = limits
        self.in_flight = 0
        self.is_draining = False

    def check(self) -> None:
        """Raises Overloaded or ShuttingDown at once if no request may come in now."""
        if self.is_draining:
            raise ShuttingDown("the gateway is shutting down", retry_after_s=1)
        if self.in_flight >= self.limits.max_in_flight:
            raise self._full()

    def __enter__(self) -> None:
        """Hold a place in the gateway. Raises Overloaded at once; what began to arrive before a drain has its place."""
        if self.in_flight >= self.limits.max_in_flight:
            raise self._full()
        self.in_flight += 1

    def __exit__(self, *_: object) -> None:
        self.in_flight -= 1

    def _full(self) -> Overloaded:
        return Overloaded(f"{self.in_flight} requests are in flight, the most allowed", retry_after_s=1)
