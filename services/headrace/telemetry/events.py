"""What the parts tell: one method an event. The silent listeners are for tests and for tools."""

from collections.abc import Callable
from typing import Protocol

from headrace.tensor import Times

__all__ = ["Cost", "EdgeEvents", "GatewayEvents", "Line", "ReplicaEvents", "Silent"]


class Cost(Protocol):
    """What a batch takes: `base_s + cell_s * cells`."""

    base_s: float
    cell_s: float


class Line(Protocol):
    """What waits for a model, what runs, and how long a newcomer would wait by what is known."""

    @property
    def waiting_rows(self) -> int: ...
    @property
    def running_rows(self) -> int: ...
    @property
    def cost(self) -> Cost: ...
    def wait_s(self) -> float: ...


class ReplicaEvents(Protocol):
    def batch_ran(self, rows: int, real_cells: int, padding_cells: int) -> None:
        """`real_cells` are rows times their own lengths, `padding_cells` what the longest row made of them beyond."""
        ...

    def request_served(self, times: Times) -> None: ...

    def watch_batcher(self, line: Line) -> None:
        """Told once: where to look when somebody wants to know; may be asked from any thread."""
        ...

    def watch_sequences(self, open_now: Callable[[], int]) -> None:
        """Told once, as `watch_batcher` is."""
        ...

    def sequences_expired(self, number: int) -> None:
        """So many sequences had no step for too long; their states are gone."""
        ...


class EdgeEvents(Protocol):
    def request_failed(self, door: str, code: str) -> None:
        """A request ended in the error with this code."""
        ...


class GatewayEvents(EdgeEvents, Protocol):
    def watch_in_flight(self, requests: Callable[[], int]) -> None:
        """Told once, as `watch_batcher` is."""
        ...

    def request_ended(self, model: str, version: str, door: str, code: int, seconds: float) -> None:
        """`model` and `version` are those of a spec, or empty; never text from a request."""
        ...

    def request_retried(self, model: str) -> None: ...
    def loop_lagged(self, seconds: float) -> None: ...


class Silent:
    """Hears everything, tells nobody."""

    def batch_ran(self, rows: int, real_cells: int, padding_cells: int) -> None: ...
    def request_served(self, times: Times) -> None: ...
    def watch_batcher(self, line: Line) -> None: ...
    def watch_sequences(self, open_now: Callable[[], int]) -> None: ...
    def sequences_expired(self, number: int) -> None: ...
    def watch_in_flight(self, requests: Callable[[], int]) -> None: ...
    def request_ended(self, model: str, version: str, door: str, code: int, seconds: float) -> None: ...
    def request_failed(self, door: str, code: str) -> None: ...
    def request_retried(self, model: str) -> None: ...
    def loop_lagged(self, seconds: float) -> None: ...
