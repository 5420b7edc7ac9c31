"""A Receiver without a connection, with small limits; and streams of bytes cut at random."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from headrace.edge.budget import Budget
from headrace.edge.exchange import Exchange
from headrace.edge.framing import split_target
from headrace.edge.limits import EdgeLimits
from headrace.edge.received import ReceivedRequest
from headrace.edge.receiver import Receiver
from headrace.errors import HeadraceError, Overloaded

__all__ = ["LIMITS", "Outcome", "cut", "outcome"]

LIMITS = EdgeLimits(
    max_uri_bytes=200,
    max_head_bytes=800,
    max_headers=10,
    max_header_bytes=300,
    max_body_bytes=1000,
    max_bodies_bytes=4000,
    max_chunks=20,
    max_requests_per_connection=4,
)


@dataclass
class Outcome:
    """The requests that a Receiver read, and how it ended: an error's code, "broken" or nothing."""

    received: list[ReceivedRequest] = field(default_factory=list)
    invited: int = 0
    end: str = ""
    awaited: str = ""


class _Taker:
    """Takes all that is read and holds it to the limits; refuses /full, and fails over /broken."""

    def __init__(self, budget: Budget, outcome: Outcome) -> None:
        self._budget = budget
        self._outcome = outcome

    def admit(self, exchange: Exchange, target: bytes) -> None:
        assert len(target) <= LIMITS.max_uri_bytes
        split_target(exchange.method, target)
        if target == b"/full":
            raise Overloaded("full", 1)
        if target == b"/broken":
            raise ZeroDivisionError

    def take(self, received: ReceivedRequest) -> None:
        headers = received.exchange.headers
        assert len(received.body) <= LIMITS.max_body_bytes
        assert sum(len(n) + len(v) for n, v in headers.items()) <= LIMITS.max_head_bytes
        assert len(headers) <= LIMITS.max_headers
        self._budget.give_back(len(received.body))
        self._outcome.received.append(received)

    def invite_body(self) -> None:
        self._outcome.invited += 1

    def is_full(self) -> bool:
        return False


def outcome(pieces: Sequence[bytes]) -> Outcome:
    """Read the pieces to the end of the input; all of the budget must have been given back."""
    budget = Budget(LIMITS.max_bodies_bytes)
    found = Outcome()
    receiver = Receiver(LIMITS, budget, _Taker(budget, found))
    try:
        for piece in pieces:
            receiver.feed(piece)
        found.awaited = str(receiver.awaited)
        receiver.end()
    except HeadraceError as error:
        found.end = error.code
    except ZeroDivisionError:
        found.end = "broken"
    receiver.drop()
    budget.take(LIMITS.max_bodies_bytes)
    return found


def cut(stream: bytes, chance: random.Random) -> list[bytes]:
    most = chance.choice((1, 7, 100, 10_000))
    offsets = [0]
    while offsets[-1] < len(stream):
        offsets.append(offsets[-1] + chance.randint(1, most))
    return [stream[start:end] for start, end in pairwise(offsets)]
