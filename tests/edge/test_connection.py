"""One connection: limits at themselves and one beyond, deadlines, order, and no answer lost."""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest
from tests.edge.conftest import Caller, Listener, chunked, listening, request, until
from tests.keys.certificates import write_pair

from headrace.edge.exchange import Call, Response, Route
from headrace.edge.limits import EdgeLimits
from headrace.edge.problems import STATUS
from headrace.edge.routes import RouteTable
from headrace.errors import BadRequest, Overloaded, UnknownRoute, WrongMethod

SMALL = EdgeLimits(
    max_uri_bytes=100,
    max_head_bytes=1000,
    max_headers=10,
    max_header_bytes=500,
    max_body_bytes=1000,
    max_chunks=5,
)


async def test_a_body_is_answered_whole_however_it_comes(listener: Listener) -> None:
    caller = await listener.call()
    assert await caller.round_trip(request(b"abc")) == (200, b"abc")
    for byte in request(b"in pieces"):
        await caller.send(bytes([byte]))
    assert await caller.answer() == (200, b"in pieces")
    assert await caller.round_trip(chunked(b"in ", b"chunks")) == (200, b"in chunks")


async def test_requests_of_one_write_are_answered_in_order(listener: Listener) -> None:
    caller = await listener.call()
    await caller.send(b"".join(request(b"%d" % n) for n in range(200)))
    assert [await caller.answer() for _ in range(200)] == [(200, b"%d" % n) for n in range(200)]


async def test_an_application_that_breaks_is_answered(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """Without an answer the caller would wait for ever, and the shutdown for the caller."""

    def broken(_: bytes) -> Response:
        raise ZeroDivisionError

    listener.app.reply = broken
    caller = await listener.call()
    assert (await caller.round_trip(request()))[0] == 500
    assert await caller.rest() == b""
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("body", [b"", b"abc", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
@pytest.mark.parametrize("step", [1, 10, 10_000])
async def test_an_upgrade_header_is_ignored(listener: Listener, body: bytes, step: int) -> None:
    caller = await listener.call()
    upgrade = request(
        body,
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQ",
        "X: y",
    )
    sent = upgrade + request(b"next")
    for start in range(0, len(sent), step):
        await caller.send(sent[start : start + step])
    assert await caller.answer() == (200, body)
    assert await caller.answer() == (200, b"next")
    assert listener.app.heads[0][b"x"] == b"y"
    assert listener.app.bodies == [body, b"next"]


async def test_a_trailer_does_not_pass_for_a_header(listener: Listener) -> None:
    caller = await listener.call()
    assert await caller.round_trip(chunked(b"a", end=b"0\r\nAuthorization: Bearer x\r\n\r\n")) == (
        200,
        b"a",
    )
    assert b"authorization" not in listener.app.heads[0]


@pytest.mark.parametrize("status", sorted({200, *STATUS.values()}))
async def test_every_status_that_is_given_has_its_line(listener: Listener, status: int) -> None:
    listener.app.reply = lambda _: Response(status)
    caller = await listener.call()
    assert (await caller.round_trip(request()))[0] == status


LIMITS: list[tuple[Callable[[int], bytes], int, int, str]] = [
    (lambda n: request(target="/" + "a" * n), 99, 414, "uri_too_long"),
    (lambda n: request(b"", *(f"X-{i}: a" for i in range(n))), 8, 431, "headers_too_large"),
    (lambda n: request(b"", "X: " + "a" * n), 499, 431, "headers_too_large"),
    (
        lambda n: request(b"", "X: " + "a" * 490, "Y: " + "a" * (n - 490)),
        490 + 464,
        431,
        "headers_too_large",
    ),
    (lambda n: request(b"a" * n), 1000, 413, "body_too_large"),
    (lambda n: chunked(b"a" * n), 1000, 413, "body_too_large"),
    (lambda n: chunked(*[b"a"] * n), 5, 413, "too_many_chunks"),
]


@pytest.mark.parametrize(("make", "most", "status", "code"), LIMITS)
async def test_a_limit_holds_at_itself_and_one_beyond(
    make: Callable[[int], bytes], most: int, status: int, code: str
) -> None:
    async with listening(SMALL) as listener:
        caller = await listener.call()
        assert (await caller.round_trip(make(most)))[0] == 200
        assert (await caller.round_trip(make(most + 1)))[0] == status
        assert listener.app.refused == [code]


async def test_a_head_that_never_ends_is_refused_before_it_is_all_there() -> None:
    async with listening() as listener:
        caller = await listener.call()
        await caller.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000)
        assert (await caller.answer())[0] == 431


async def test_chunk_extensions_and_trailers_are_bounded() -> None:
    async with listening() as listener:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        for rest in (
            b"1;x=" + b"a" * 100_000 + b"\r\na\r\n0\r\n\r\n",
            b"0\r\nX: " + b"a" * 64_000 + b"\r\n\r\n",
        ):
            caller = await listener.call()
            await caller.send(head + rest)
            assert (await caller.answer())[0] == 400
        assert listener.app.refused == ["bad_chunk"] * 2


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        (b"", "keep_alive_s"),
        (b"GET / HT", "head_timeout_s"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na", "body_timeout_s"),
    ],
)
async def test_what_does_not_arrive_in_time_ends_the_connection(sent: bytes, seconds: str) -> None:
    limits = replace(EdgeLimits(), **{seconds: 0.02})  # type: ignore[arg-type] # a field of its own for each case
    async with listening(limits) as listener:
        caller = await listener.call()
        await caller.send(sent)
        received = await caller.rest()
        assert received.startswith(b"HTTP/1.1 408") if sent else not received
        assert listener.app.refused == (["request_timeout"] if sent else [])


async def test_a_trickle_extends_no_deadline() -> None:
    async with listening(EdgeLimits(head_timeout_s=0.02)) as listener:
        caller = await listener.call()

        async def trickle() -> None:
            for byte in request(b"", "X: " + "a" * 8000):
                await caller.send(bytes([byte]))
                await asyncio.sleep(0)

        trickling = asyncio.create_task(trickle())
        status, _ = await caller.answer()
        assert status == 408
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)


async def test_a_running_request_outlives_the_idle_limit() -> None:
    async with listening(EdgeLimits(keep_alive_s=0.01)) as listener:
        listener.app.held = asyncio.Event()
        caller = await listener.call()
        await caller.send(request(b"slow"))
        asyncio.get_running_loop().call_later(0.05, listener.app.held.set)
        assert await caller.answer() == (200, b"slow")


async def test_a_caller_who_does_not_read_is_cut_off() -> None:
    async with listening(EdgeLimits(write_timeout_s=0.02, max_connections=1)) as listener:
        listener.app.reply = lambda _: Response(200, b"a" * (64 << 20))
        await (await listener.call()).send(request())
        while not listener.app.bodies:
            await asyncio.sleep(0)
        listener.app.reply = lambda _: Response(200, b"room again")
        async with asyncio.timeout(5):
            while not await _is_served(await listener.call()):
                pass


async def _is_served(caller: Caller) -> bool:
    try:
        return await caller.round_trip(request()) == (200, b"room again")
    except (asyncio.IncompleteReadError, ConnectionError):
        return False


async def test_a_caller_who_does_not_read_its_last_answer_is_cut_off_too() -> None:
    """Too little is left to send for the transport to pause, and closing would wait for it."""
    async with listening(
        EdgeLimits(keep_alive_s=0.02, write_timeout_s=0.02, max_connections=1)
    ) as listener:
        listener.app.reply = lambda _: Response(200, b"a" * 3_000_000)
        caller = await listener.call()
        caller.writer.transport.pause_reading()  # type: ignore[attr-defined] # a stream's transport reads
        await caller.send(request())
        while not listener.app.bodies:
            await asyncio.sleep(0)
        listener.app.reply = lambda _: Response(200, b"room again")
        async with asyncio.timeout(5):
            while not await _is_served(await listener.call()):
                pass


async def test_many_requests_of_one_write_are_read_a_few_at_a_time() -> None:
    async with listening(EdgeLimits(max_pipelined=4)) as listener:
        listener.app.held = asyncio.Event()
        caller = await listener.call()
        await caller.send(b"".join(request(b"%d" % n) for n in range(2000)))
        while not listener.app.bodies:
            await asyncio.sleep(0)
        assert len(listener.app.heads) < 100
        listener.app.held.set()
        assert [await caller.answer() for _ in range(2000)] == [
            (200, b"%d" % n) for n in range(2000)
        ]


async def test_a_read_may_end_inside_the_method_after_a_large_body(listener: Listener) -> None:
    caller = await listener.call()
    second = request(b"b")
    await caller.send(request(b"a" * 70_000) + second[:1])
    assert await caller.answer() == (200, b"a" * 70_000)
    assert await caller.round_trip(second[1:]) == (200, b"b")


async def test_a_100_waits_for_the_answers_before_it(listener: Listener) -> None:
    listener.app.held = asyncio.Event()
    caller = await listener.call()
    await caller.send(request(b"a") + request(b"b", "Expect: 100-continue")[:-1])
    while len(listener.app.heads) < 2:
        await asyncio.sleep(0)
    listener.app.held.set()
    assert await caller.answer() == (200, b"a")
    assert await caller.answer() == (100, b"")
    assert await caller.round_trip(b"b") == (200, b"b")


async def test_who_does_not_wait_for_its_100_gets_none_later(listener: Listener) -> None:
    listener.app.held = asyncio.Event()
    caller = await listener.call()
    await caller.send(request(b"a") + request(b"b", "Expect: 100-continue"))
    while len(listener.app.heads) < 2:
        await asyncio.sleep(0)
    listener.app.held.set()
    assert [await caller.answer() for _ in range(2)] == [(200, b"a"), (200, b"b")]
    assert await caller.round_trip(request(b"c")) == (200, b"c")


async def test_a_remembered_refusal_keeps_nothing_of_the_request_that_met_it() -> None:
    table: RouteTable[None] = RouteTable([])
    found = []
    for _ in range(2):
        with pytest.raises(UnknownRoute) as caught:
            table.find("GET", b"/nowhere")
        found.append(caught.value)
    assert found[0] is not found[1]


async def test_head_is_found_and_counted_as_get() -> None:
    async def nothing(_: Call[None]) -> Response:
        return Response(200)

    table = RouteTable(
        [
            Route(method="GET", template="/a", api="health", handler=nothing),
            Route(method="POST", template="/b", api="infer", handler=nothing),
        ]
    )
    assert table.find("HEAD", b"/a") == table.find("GET", b"/a")
    for method, path, allowed in (
        ("HEAD", b"/b", "POST"),
        ("PUT", b"/a", "GET, HEAD"),
        ("OPTIONS", b"*", "GET, HEAD, POST"),
    ):
        with pytest.raises(WrongMethod) as caught:
            table.find(method, path)
        assert caught.value.allowed == allowed


async def test_a_refused_request_with_a_small_body_keeps_its_connection(listener: Listener) -> None:
    caller = await listener.call()
    listener.app.refusal = Overloaded("full", 1)
    assert (await caller.round_trip(request(b"abc")))[0] == 503
    listener.app.refusal = None
    assert await caller.round_trip(request(b"abc")) == (200, b"abc")


async def test_a_refusal_reaches_a_caller_who_is_still_sending(listener: Listener) -> None:
    listener.app.refusal = BadRequest("no")
    caller = await listener.call()
    await caller.send(
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n" + b"a" * 2_000_000
    )
    assert (await caller.answer())[0] == 400
    assert await caller.rest() == b""
    assert listener.app.bodies == []


@pytest.mark.parametrize("is_refused", [False, True])
async def test_a_caller_who_waits_for_100_gets_it_or_is_refused_at_once(
    listener: Listener, is_refused: bool
) -> None:
    listener.app.refusal = BadRequest("no") if is_refused else None
    caller = await listener.call()
    await caller.send(request(b"abc", "Expect: 100-continue")[:-3])
    assert (await caller.answer())[0] == (400 if is_refused else 100)
    if not is_refused:
        assert await caller.round_trip(b"abc") == (200, b"abc")


async def test_a_caller_who_ends_early_is_told_and_counted_once(listener: Listener) -> None:
    caller = await listener.call()
    await caller.send(request(b"abc")[:-1])
    caller.writer.write_eof()
    assert (await caller.answer())[0] == 400
    assert listener.app.refused == ["body_truncated"]
    await caller.rest()
    assert listener.app.gone == []


async def test_a_body_that_is_given_up_was_being_received_until_then(listener: Listener) -> None:
    caller = await listener.call()
    await caller.send(request(b"abc", "Expect: 100-continue")[:-3])
    assert (await caller.answer())[0] == 100
    left_s = monotonic()
    # A reset: after an end alone the caller is still answered.
    caller.writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    caller.writer.transport.abort()
    async with asyncio.timeout(5):
        while not listener.app.gone:
            await asyncio.sleep(0)
    exchange = listener.app.gone[0]
    assert exchange.began_s < left_s < exchange.received_s


async def test_a_caller_who_leaves_is_told_of_once() -> None:
    async with listening() as listener:
        listener.app.held = asyncio.Event()
        caller = await listener.call()
        await caller.send(request(b"runs") + request(b"waits") + request(b"arrives")[:-1])
        while not listener.app.bodies or len(listener.app.heads) < 3:
            await asyncio.sleep(0)
        caller.writer.transport.abort()
        async with asyncio.timeout(5):
            while len(listener.app.gone) < 2:
                await asyncio.sleep(0)
        assert listener.app.bodies == [b"runs"]


async def test_connections_beyond_the_cap_are_refused_while_all_others_are_owed_an_answer() -> None:
    async with listening(EdgeLimits(max_connections=2)) as listener:
        listener.app.held = asyncio.Event()
        callers = [await listener.call() for _ in range(2)]
        for caller in callers:
            await caller.send(request(b"1"))
        await until(lambda: len(listener.app.bodies) == 2)
        assert await (await listener.call()).rest() == b""
        listener.app.held.set()
        assert [await caller.answer() for caller in callers] == [(200, b"1")] * 2


async def test_who_is_longest_idle_gives_way_to_who_comes() -> None:
    async with listening(EdgeLimits(max_connections=2)) as listener:
        first, second = await listener.call(), await listener.call()
        for caller in (second, first):
            assert await caller.round_trip(request(b"1")) == (200, b"1")
        third = await listener.call()
        assert await third.round_trip(request(b"3")) == (200, b"3")
        assert await second.rest() == b""
        assert await first.round_trip(request(b"1")) == (200, b"1")
        assert await (await listener.call()).round_trip(request(b"4")) == (200, b"4")
        assert await third.rest() == b""


@pytest.mark.parametrize(
    "part", [request(b"whole")[:10], request(b"whole")[:-1]], ids=["head", "body"]
)
async def test_what_arrives_gives_way_where_nobody_is_idle_and_only_there(part: bytes) -> None:
    async with listening(EdgeLimits(max_connections=3)) as listener:
        slow, later, idle = [await listener.call() for _ in range(3)]
        await slow.send(part)
        assert await idle.round_trip(request(b"1")) == (200, b"1")  # the part has been read by now
        await later.send(part)
        assert await idle.round_trip(request(b"2")) == (200, b"2")
        busy = await listener.call()
        assert await idle.rest() == b""
        listener.app.held = asyncio.Event()
        await busy.send(request(b"held"))
        await until(lambda: listener.app.bodies[-1] == b"held")
        await listener.call()
        assert await slow.rest() == b""
        listener.app.held.set()
        assert await busy.answer() == (200, b"held")
        await later.send(request(b"whole")[len(part) :])
        assert await later.answer() == (200, b"whole")


async def test_over_tls_only_who_never_had_an_answer_gives_way(tmp_path: Path) -> None:
    pair = tmp_path / "tls.crt", tmp_path / "tls.key"
    write_pair(*pair)
    async with listening(EdgeLimits(max_connections=2), pair) as listener:
        answered, idle = await listener.call(), await listener.call()
        assert await answered.round_trip(request(b"1")) == (200, b"1")
        third = await listener.call()
        assert await third.round_trip(request(b"3")) == (200, b"3")
        assert await idle.rest() == b""
        assert await (await listener.call()).rest() == b""
        assert await answered.round_trip(request(b"1")) == (200, b"1")


async def test_who_still_reads_an_answer_gives_way_to_nobody() -> None:
    size = 8 << 20
    async with listening(EdgeLimits(max_connections=1)) as listener:
        listener.app.reply = lambda _: Response(200, b"a" * size)
        caller = await listener.call()
        caller.writer.transport.pause_reading()  # type: ignore[attr-defined] # a stream's transport reads
        await caller.send(request())
        await until(lambda: bool(listener.app.bodies))
        assert await (await listener.call()).rest() == b""
        caller.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await caller.answer())[1] == b"a" * size


async def test_a_connection_is_closed_after_its_last_request() -> None:
    async with listening(EdgeLimits(max_requests_per_connection=2)) as listener:
        caller = await listener.call()
        assert await caller.round_trip(request(b"1")) == (200, b"1")
        await caller.send(request(b"2"))
        assert b"connection: close" in await caller.rest()


async def test_bodies_in_flight_are_bounded_together_and_given_back() -> None:
    async with listening(EdgeLimits(max_bodies_bytes=10)) as listener:
        first, second = await listener.call(), await listener.call()
        assert await first.round_trip(request(b"a" * 10)) == (200, b"a" * 10)
        await first.send(request(b"a" * 8)[:-1])
        while len(listener.app.heads) < 2:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (await second.round_trip(request(b"a" * 8)))[0] == 503
        assert await first.round_trip(b"a") == (200, b"a" * 8)
        third = await listener.call()
        assert (await third.round_trip(request(b"a" * 10)))[0] == 200


async def test_the_end_answers_what_has_begun_and_closes_what_is_idle(listener: Listener) -> None:
    listener.app.held = asyncio.Event()
    idle, busy, half = await listener.call(), await listener.call(), await listener.call()
    await busy.send(request(b"busy"))
    await half.send(request(b"half")[:-2])
    while len(listener.app.heads) < 2:
        await asyncio.sleep(0)
    listener.stop.set()
    assert await idle.rest() == b""
    listener.app.held.set()
    await half.send(b"lf")
    assert (await busy.answer(), await half.answer()) == ((200, b"busy"), (200, b"half"))
    assert (await busy.rest(), await half.rest()) == (b"", b"")


async def test_head_has_no_body(listener: Listener) -> None:
    caller = await listener.call()
    listener.app.reply = lambda _: Response(200, b"abc")
    await caller.send(request(method="HEAD") + request())
    async with asyncio.timeout(5):
        first = await caller.reader.readuntil(b"\r\n\r\n")
    assert b"content-length: 3" in first
    assert await caller.answer() == (200, b"abc")
