"""Fuzzes what reads a connection: the first byte says how the rest is cut, which must change nothing."""

import random

import atheris

with atheris.instrument_imports(include=["headrace"]):
    from tests.fuzz.driver import fuzz

    from headrace.edge.budget import Budget
    from headrace.edge.exchange import Exchange
    from headrace.edge.framing import split_target
    from headrace.edge.limits import EdgeLimits
    from headrace.edge.received import ReceivedRequest
    from headrace.edge.receiver import Receiver
    from headrace.errors import HeadraceError

LIMITS = EdgeLimits(
    max_uri_bytes=200,
    max_head_bytes=800,
    max_headers=10,
    max_header_bytes=300,
    max_body_bytes=1000,
    max_bodies_bytes=4000,
    max_chunks=20,
)
Request = tuple[str, dict[bytes, bytes], bytes, str, bool]


def read(data: bytes) -> None:
    """ReceivedRequest and in pieces: the same requests, the same end, nothing beyond the limits and nothing left behind."""
    chance, stream = random.Random(data[:1]), data[1:]
    whole = requests_of([stream])
    assert whole == requests_of(list(cut(stream, chance)))


def cut(stream: bytes, chance: random.Random) -> list[bytes]:
    most = chance.choice((1, 7, 100))
    pieces = []
    while stream:
        size = chance.randint(1, most)
        pieces.append(stream[:size])
        stream = stream[size:]
    return pieces


class Taker:
    """Takes all that is read and holds it to the limits."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.found: list[Request] = []

    def admit(self, exchange: Exchange, target: bytes) -> None:
        assert len(target) <= LIMITS.max_uri_bytes
        split_target(exchange.method, target)

    def take(self, whole: ReceivedRequest) -> None:
        exchange = whole.exchange
        assert len(whole.body) <= LIMITS.max_body_bytes
        assert sum(len(n) + len(v) for n, v in exchange.headers.items()) <= LIMITS.max_head_bytes
        assert len(exchange.headers) <= LIMITS.max_headers
        self.budget.give_back(len(whole.body))
        code = whole.error.code if whole.error else ""
        self.found.append((exchange.method, exchange.headers, whole.body, code, whole.keep))

    def go_on(self) -> None: ...

    def is_full(self) -> bool:
        return False


def requests_of(pieces: list[bytes]) -> tuple[list[Request], bool]:
    """What came out, and whether the connection ended in an error."""
    budget = Budget(LIMITS.max_bodies_bytes)
    taker = Taker(budget)
    receiver = Receiver(LIMITS, budget, "peer", taker)
    is_refused = False
    try:
        for piece in pieces:
            receiver.feed(piece)
        receiver.end()
    except HeadraceError:
        is_refused = True
    receiver.drop()
    budget.take(LIMITS.max_bodies_bytes)  # all that was taken was given back
    return taker.found, is_refused


if __name__ == "__main__":
    fuzz("http_head", read)
