"""A request that has arrived, and who takes it: here reading a connection meets answering it."""

from typing import NamedTuple, Protocol

from headrace.edge.exchange import Exchange
from headrace.errors import HeadraceError

__all__ = ["ReceivedRequest", "Taker"]


class ReceivedRequest(NamedTuple):
    """A request with its body, or with the error that is its answer.

    `keep`: its connection may stay open after the answer.
    """

    exchange: Exchange
    body: bytes
    error: HeadraceError | None
    keep: bool


class Taker(Protocol):
    """Takes the requests that a Receiver reads, and gives their bodies back to the budget."""

    def admit(self, exchange: Exchange, target: bytes) -> None:
        """Check a head before any of its body is read. Raises a HeadraceError to refuse it."""
        ...

    def take(self, received: ReceivedRequest) -> None: ...

    def invite_body(self) -> None:
        """Send the 100 that a caller waits for before it sends its body."""
        ...

    def is_full(self) -> bool:
        """Tell whether to read no more requests for now."""
        ...
