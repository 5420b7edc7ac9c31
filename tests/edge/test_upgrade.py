"""A wish for another protocol, before the parser: whatever the head, the body and the cuts, nothing else comes out."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.edge.conftest import listening, request

from headrace.edge.budget import Budget
from headrace.edge.exchange import Exchange
from headrace.edge.framing import split_target
from headrace.edge.limits import EdgeLimits
from headrace.edge.received import ReceivedRequest
from headrace.edge.receiver import Receiver
from headrace.errors import HeadraceError, Overloaded

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
WISH = b"Connection: upgrade\r\nUpgrade: h2c\r\n"
NOTHING = b"Connectiox: upgrade\r\nUpgradx: h2c\r\n"
OF_WISH = {b"connection", b"upgrade", b"connectiox", b"upgradx"}


@dataclass
class Taker:
    """Takes all that is read; refuses what goes to /full, and breaks over what goes to /broken."""

    budget: Budget
    found: list[tuple[str, str, bytes, str, bool]] = field(default_factory=list)
    went_on: int = 0

    def admit(self, exchange: Exchange, target: bytes) -> None:
        split_target(exchange.method, target)
        if target == b"/full":
            raise Overloaded("full", 1)
        if target == b"/broken":
            raise ZeroDivisionError

    def take(self, whole: ReceivedRequest) -> None:
        self.budget.give_back(len(whole.body))
        headers = sorted(
            (name, value) for name, value in whole.exchange.headers.items() if name not in OF_WISH
        )
        code = whole.error.code if whole.error else ""
        # The next request may have been read as a body.
        body = whole.body.replace(b"Connection", b"Connectiox").replace(b"Upgrade", b"Upgradx")
        self.found.append((whole.exchange.method, repr(headers), body, code, whole.keep))

    def go_on(self) -> None:
        self.went_on += 1

    def is_full(self) -> bool:
        return False


def outcome(pieces: Sequence[bytes]) -> tuple[object, ...]:
    """All that came out, what it ended with, and what is awaited then."""
    budget = Budget(LIMITS.max_bodies_bytes)
    taker = Taker(budget)
    receiver = Receiver(LIMITS, budget, "peer", taker)
    end = awaited = ""
    try:
        for piece in pieces:
            receiver.feed(piece)
        awaited = str(receiver.awaited)
        receiver.end()
    except HeadraceError as error:
        end = error.code
    except ZeroDivisionError:
        end = "broken"
    receiver.drop()
    budget.take(LIMITS.max_bodies_bytes)  # all that was taken was given back
    return taker.found, taker.went_on, end, awaited


def cut(stream: bytes, chance: random.Random) -> list[bytes]:
    most = chance.choice((1, 7, 100, 10_000))
    places = [0]
    while places[-1] < len(stream):
        places.append(places[-1] + chance.randint(1, most))
    return [stream[start:end] for start, end in pairwise(places)]


HEADERS = st.sampled_from(
    [
        b"Host: here",
        b"Host: there",
        b"Content-Length: 5",
        b"Content-Length: 0",
        b"Content-Length: 70",
        b"Content-Length: 100000",
        b"Content-Length: +5",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"Connection: close",
        b"Connection: keep-alive, close",
        b"Connection: keep-alive",
        b"Expect: 100-continue",
        b"Expect: 200-ok",
        b"Content-Type: \xe9",
        b"X: " + b"a" * 290,
        b"X: a",
        b"X : a",
        b"Odd",
    ]
)
BODIES = st.sampled_from(
    [
        b"",
        b"abcde",
        b"a" * 70,
        b"2\r\n{}\r\n0\r\n\r\n",
        b"5;x=y\r\nabcde\r\n1\r\na\r\n0\r\nX: y\r\n\r\n",
        b"0\r\nConnection: close\r\nUpgrade: h2c\r\n\r\n",
        b"1\r\na\r\n" * 30 + b"0\r\n\r\n",
        b"zz\r\n",
        b"GET /inner HTTP/1.1\r\nHost: here\r\n\r\n",
    ]
)
FIRST_LINES = st.builds(
    lambda method, target, version: b"%b %b HTTP/%b\r\n" % (method, target, version),
    st.sampled_from([b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"PUT", b"FOO"]),
    st.sampled_from(
        [
            b"/",
            b"/full",
            b"/broken",
            b"*",
            b"here:443",
            b"/%zz",
            b"/" + b"a" * 199,
            b"/" + b"a" * 200,
        ]
    ),
    st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0", b"2.0", b"0.9"]),
)
# A request that is right but for the header or two that are added to it is met more often than chance would have it.
MESSAGES = st.tuples(
    FIRST_LINES, st.lists(HEADERS, max_size=9).map(lambda more: [b"Host: here", *more]), BODIES
)


@settings(max_examples=500, deadline=None)
@given(st.lists(MESSAGES, min_size=1, max_size=4), st.integers(0, 1 << 32), st.integers(0, 3))
def test_a_wish_changes_nothing_whatever_is_sent_and_however_it_is_cut(
    messages: list[tuple[bytes, list[bytes], bytes]], seed: int, place: int
) -> None:
    def stream(added: bytes) -> bytes:
        heads = ((line, [h + b"\r\n" for h in lines], body) for line, lines, body in messages)
        return b"".join(
            b"%b%b\r\n%b" % (line, b"".join([*lines[:place], added, *lines[place:]]), body)
            for line, lines, body in heads
        )

    assert outcome([stream(WISH)]) == outcome([stream(NOTHING)])
    in_pieces = [cut(stream(added), random.Random(seed)) for added in (WISH, NOTHING)]
    assert outcome(in_pieces[0]) == outcome(in_pieces[1])


async def test_limits_count_a_head_with_a_wish_once() -> None:
    async with listening(EdgeLimits(max_headers=10, max_requests_per_connection=3)) as listener:
        caller = await listener.call()
        wish = ["Connection: Upgrade", "Upgrade: h2c"]
        most = request(b"ab", *wish, *["X: y"] * 6)  # with Host and Content-Length it has ten
        assert [await caller.ask(most) for _ in range(3)] == [(200, b"ab")] * 3
        assert await caller.rest() == b""
        caller = await listener.call()
        assert (await caller.ask(request(b"ab", *wish, *["X: y"] * 7)))[0] == 431
