"""The HTTP protocol around an application of ours: every request is answered, also when the application breaks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from headrace.edge.exchange import Receive, Response, Scope
from headrace.gateway.http_protocol import Application, OneWriteProtocol
from headrace.http_server import listen, run_http


@asynccontextmanager
async def serving(app: Application) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server of `app`, which must end in time when it is told to."""
    stop = asyncio.Event()
    sock = listen("127.0.0.1", 0)
    server = asyncio.create_task(run_http(app, sock, stop, OneWriteProtocol))
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        stop.set()
        async with asyncio.timeout(5):
            await server


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str = "/") -> bytes:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    async with asyncio.timeout(1):
        return await reader.readuntil(b"\r\n")


async def test_an_application_that_breaks_is_answered_with_500(caplog: pytest.LogCaptureFixture) -> None:
    """Without an answer the caller waits for ever, and the shutdown waits for the caller."""

    async def broken(_: Scope, __: Receive, ___: bytes | None) -> Response:
        raise ZeroDivisionError

    async with serving(broken) as (reader, writer):
        assert await ask(reader, writer) == b"HTTP/1.1 500 Internal Server Error\r\n"
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("status", [200, 404, 405, 413, 415, 429, 499, 500, 503, 504])
async def test_every_status_that_we_give_has_its_line(status: int) -> None:
    async def says(_: Scope, __: Receive, ___: bytes | None) -> Response:
        return Response(status)

    async with serving(says) as (reader, writer):
        assert (await ask(reader, writer)).startswith(f"HTTP/1.1 {status} ".encode())


async def test_a_body_that_came_whole_is_given_whole() -> None:
    bodies: list[bytes | None] = []

    async def listens(_: Scope, __: Receive, whole_body: bytes | None) -> Response:
        bodies.append(whole_body)
        return Response(200)

    async with serving(listens) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
    assert bodies == [b"abc", None]
