"""A request that has arrived, and who takes it: where reading a connection and answering it meet."""

from typing import NamedTuple, Protocol

from headrace.edge.exchange import Exchange
from headrace.errors import HeadraceError

__all__ = ["ReceivedRequest", "Taker"]


class ReceivedRequest(NamedTuple):
    """A request that has arrived: with its body, or with the error that answers it.

    `keep` says whether its connection may stay open after the answer.
    """

    exchange: Exchange
    body: bytes
    error: HeadraceError | None
    keep: bool


class Taker(Protocol):
    """Who takes what a Receiver reads. The bytes of a whole body stay in the budget until it gives them back."""

    def admit(self, exchange: Exchange, target: bytes) -> None:
        """Look at a head before any of its body is read. Raises a HeadraceError to refuse the request."""
        ...

    def take(self, whole: ReceivedRequest) -> None: ...

    def go_on(self) -> None:
        """A caller waits for a 100 before it sends a body that is welcome."""
        ...

    def is_full(self) -> bool:
        """No more requests are to be read for now."""
        ...
