"""An Upgrade header changes nothing, whatever the head, the body and the cuts."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.edge.conftest import listening, request
from tests.edge.receiving import cut, outcome

from headrace.edge.limits import EdgeLimits

UPGRADE = b"Connection: upgrade\r\nUpgrade: h2c\r\n"
NOTHING = b"Connectiox: upgrade\r\nUpgradx: h2c\r\n"
OF_UPGRADE = {b"connection", b"upgrade", b"connectiox", b"upgradx"}


def comparable(pieces: list[bytes]) -> tuple[object, ...]:
    """The outcome of reading pieces, but for the headers that the test adds."""
    found = outcome(pieces)
    requests = []
    for received in found.received:
        exchange = received.exchange
        headers = sorted(item for item in exchange.headers.items() if item[0] not in OF_UPGRADE)
        code = received.error.code if received.error else ""
        # The next request may have been read as a body.
        body = received.body.replace(b"Connection", b"Connectiox").replace(b"Upgrade", b"Upgradx")
        requests.append((exchange.method, headers, body, code, received.keep))
    return requests, found.invited, found.end, found.awaited


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
# Most requests are right but for a header or two.
MESSAGES = st.tuples(
    FIRST_LINES, st.lists(HEADERS, max_size=9).map(lambda more: [b"Host: here", *more]), BODIES
)


@settings(max_examples=500, deadline=None)
@given(st.lists(MESSAGES, min_size=1, max_size=4), st.integers(0, 1 << 32), st.integers(0, 3))
def test_an_upgrade_header_changes_nothing_whatever_is_sent_and_however_it_is_cut(
    messages: list[tuple[bytes, list[bytes], bytes]], seed: int, index: int
) -> None:
    def stream(added: bytes) -> bytes:
        heads = ((line, [h + b"\r\n" for h in lines], body) for line, lines, body in messages)
        return b"".join(
            b"%b%b\r\n%b" % (line, b"".join([*lines[:index], added, *lines[index:]]), body)
            for line, lines, body in heads
        )

    assert comparable([stream(UPGRADE)]) == comparable([stream(NOTHING)])
    in_pieces = [cut(stream(added), random.Random(seed)) for added in (UPGRADE, NOTHING)]
    assert comparable(in_pieces[0]) == comparable(in_pieces[1])


async def test_limits_count_a_head_with_an_upgrade_header_once() -> None:
    async with listening(EdgeLimits(max_headers=10, max_requests_per_connection=3)) as listener:
        caller = await listener.call()
        upgrade = ["Connection: Upgrade", "Upgrade: h2c"]
        most = request(b"ab", *upgrade, *["X: y"] * 6)  # with Host and Content-Length it has ten
        assert [await caller.round_trip(most) for _ in range(3)] == [(200, b"ab")] * 3
        assert await caller.rest() == b""
        caller = await listener.call()
        assert (await caller.round_trip(request(b"ab", *upgrade, *["X: y"] * 7)))[0] == 431
