"""A listener around a small application, and raw connections to it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from headrace.edge.exchange import Exchange, Response
from headrace.edge.limits import EdgeLimits
from headrace.edge.problems import problem
from headrace.edge.server import listen, serve_http
from headrace.errors import HeadraceError
from headrace.keys import make_context

IN_TIME_S = 5


@dataclass
class Echo:
    """Answers with the body, and records its calls. `reply` may be replaced."""

    bodies: list[bytes] = field(default_factory=list)
    heads: list[dict[bytes, bytes]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    gone: list[Exchange] = field(default_factory=list)
    refusal: HeadraceError | None = None
    reply: Callable[[bytes], Response] = lambda body: Response(200, body)
    held: asyncio.Event | None = None

    def admit(self, exchange: Exchange, target: bytes) -> None:
        exchange.path = target.decode()
        self.heads.append(exchange.headers)
        if self.refusal is not None:
            raise self.refusal

    async def answer(self, _: Exchange, body: bytes) -> Response:
        self.bodies.append(body)
        if self.held is not None:
            await self.held.wait()
        return self.reply(body)

    def refuse(self, exchange: Exchange, error: HeadraceError) -> Response:
        self.refused.append(error.code)
        return problem(error, "id", headers=exchange.headers)

    def left(self, exchange: Exchange) -> None:
        self.gone.append(exchange)


class Caller:
    """One raw connection; every wait has a limit."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        async with asyncio.timeout(IN_TIME_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            return int(head.split()[1]), await self.reader.readexactly(length)

    async def round_trip(self, data: bytes) -> tuple[int, bytes]:
        await self.send(data)
        return await self.answer()

    async def rest(self) -> bytes:
        """All that arrives until the server closes."""
        async with asyncio.timeout(IN_TIME_S):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


async def until(is_reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(IN_TIME_S):
        while not is_reached():
            await asyncio.sleep(0)


@dataclass
class Listener:
    app: Echo
    address: tuple[str, int]
    stop: asyncio.Event
    done: "asyncio.Task[None]"
    trusted: ssl.SSLContext | None = None
    callers: list[Caller] = field(default_factory=list)

    async def call(self) -> Caller:
        caller = Caller(*await asyncio.open_connection(*self.address, ssl=self.trusted))
        self.callers.append(caller)
        return caller


@asynccontextmanager
async def listening(
    limits: EdgeLimits | None = None, pair: tuple[Path, Path] | None = None
) -> AsyncIterator[Listener]:
    """A listener that must stop in time; `pair` are its certificate and key."""
    tls, trusted = (
        (make_context(*pair), ssl.create_default_context(cafile=pair[0])) if pair else (None, None)
    )
    app, stop, sock = Echo(), asyncio.Event(), listen("127.0.0.1", 0)
    done = asyncio.create_task(serve_http(app, sock, stop, limits or EdgeLimits(), tls))
    listener = Listener(app, sock.getsockname(), stop, done, trusted)
    try:
        yield listener
    finally:
        for caller in listener.callers:
            caller.writer.close()
        stop.set()
        async with asyncio.timeout(IN_TIME_S):
            await done


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    async with listening() as it:
        yield it


def request(body: bytes = b"", *headers: str, method: str = "POST", target: str = "/") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *headers]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end
