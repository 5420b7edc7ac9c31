"""Unforeseen errors are answered 500, logged once by us, and never reach the loop's handler."""

import asyncio
import logging
from collections.abc import Callable, Iterator

import pytest
from tests.edge.conftest import IN_TIME_S, Listener, listening, request

from headrace.edge.exchange import Exchange, Response
from headrace.edge.limits import EdgeLimits
from headrace.errors import HeadraceError

CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADES = ["", "Connection: Upgrade\r\nUpgrade: h2c\r\n"]


class Broken(Exception):
    """An error outside the family."""


def breaks(*_: object) -> None:
    raise Broken


@pytest.fixture
async def stray() -> "list[object]":
    """The errors that reach the loop's handler."""
    found: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], int]]:
    """Counts how often a Broken was logged, by any logger."""
    with caplog.at_level(logging.INFO):
        yield lambda: sum(1 for r in caplog.records if r.exc_info and r.exc_info[0] is Broken)


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize(
    "sent", [request(), request(b"abc"), request(b"a" * 100_000), CHUNKED + b"0\r\n\r\n", CHUNKED]
)
async def test_an_application_that_breaks_over_a_head_is_answered(
    listener: Listener, stray: list[object], logged: Callable[[], int], sent: bytes, upgrade: str
) -> None:
    listener.app.admit = breaks  # type: ignore[assignment, method-assign]
    caller = await listener.call()
    assert (await caller.round_trip(sent.replace(b"Host", upgrade.encode() + b"Host")))[0] == 500
    assert await caller.rest() == b""
    assert (stray, logged()) == ([], 1)


async def test_what_is_whole_before_it_is_answered_before_it(
    listener: Listener, stray: list[object], logged: Callable[[], int]
) -> None:
    def admit(_: Exchange, target: bytes) -> None:
        if target == b"/broken":
            raise Broken

    listener.app.admit = admit  # type: ignore[assignment, method-assign]
    caller = await listener.call()
    await caller.send(
        request(b"1") + request(b"2") + request(b"3", target="/broken") + request(b"4")
    )
    assert [await caller.answer() for _ in range(2)] == [(200, b"1"), (200, b"2")]
    assert (await caller.answer())[0] == 500
    assert await caller.rest() == b""
    assert (stray, logged(), listener.app.bodies) == ([], 1, [b"1", b"2"])


async def test_an_answer_that_http_does_not_have_is_a_500(
    listener: Listener, stray: list[object], logged: Callable[[], int]
) -> None:
    listener.app.reply = lambda _: Response(999)
    caller = await listener.call()
    assert (await caller.round_trip(request()))[0] == 500
    assert await caller.rest() == b""
    assert stray == []


async def test_an_application_that_breaks_over_a_refusal_is_answered(
    listener: Listener, stray: list[object], logged: Callable[[], int]
) -> None:
    listener.app.refuse = breaks  # type: ignore[assignment, method-assign]
    caller = await listener.call()
    assert (await caller.round_trip(b"nonsense\r\n\r\n"))[0] == 500
    assert await caller.rest() == b""
    assert (stray, logged()) == ([], 1)


async def test_a_refusal_that_breaks_at_the_callers_end_or_at_a_deadline_is_answered(
    stray: list[object], logged: Callable[[], int]
) -> None:
    async with listening(EdgeLimits(head_timeout_s=0.02)) as listener:
        listener.app.refuse = breaks  # type: ignore[assignment, method-assign]
        ended, silent = await listener.call(), await listener.call()
        await ended.send(b"GET / HT")
        ended.writer.write_eof()
        await silent.send(b"GET / HT")
        assert [(await caller.answer())[0] for caller in (ended, silent)] == [500, 500]
        assert (stray, logged()) == ([], 2)


async def test_an_application_that_breaks_over_one_who_left_harms_nobody(
    listener: Listener, stray: list[object], logged: Callable[[], int]
) -> None:
    listener.app.left = breaks  # type: ignore[assignment, method-assign]
    listener.app.held = asyncio.Event()
    caller = await listener.call()
    await caller.send(request(b"runs") + request(b"waits"))
    while not listener.app.bodies:
        await asyncio.sleep(0)
    caller.writer.transport.abort()
    async with asyncio.timeout(IN_TIME_S):
        while not logged():
            await asyncio.sleep(0)
    listener.app.held = None
    assert await (await listener.call()).round_trip(request(b"abc")) == (200, b"abc")
    assert (stray, logged()) == ([], 1)


async def test_an_application_that_breaks_over_what_stays_unanswered_harms_no_answer(
    listener: Listener, stray: list[object], logged: Callable[[], int]
) -> None:
    listener.app.left = breaks  # type: ignore[assignment, method-assign]
    caller = await listener.call()
    await caller.send(request(b"last", "Connection: close") + request(b"behind"))
    assert await caller.answer() == (200, b"last")
    assert await caller.rest() == b""
    assert stray == []


async def test_an_error_of_the_family_is_no_surprise(
    listener: Listener, logged: Callable[[], int]
) -> None:
    listener.app.refusal = HeadraceError("said")
    caller = await listener.call()
    assert (await caller.round_trip(request(b"a")))[0] == 500
    assert await caller.round_trip(request(b"a")) != (200, b"a")
    assert logged() == 0


def finds_no_memory(*_: object) -> None:
    raise MemoryError


@pytest.mark.parametrize("where", ["admit", "answer"])
async def test_a_request_for_which_there_is_no_memory_is_told_to_come_again(
    listener: Listener, stray: list[object], where: str
) -> None:
    setattr(listener.app, where, finds_no_memory)
    assert (await (await listener.call()).round_trip(request(b"abc")))[0] == 503
    assert stray == []
