"""Callers who hold connections and send little: slow headers and bodies, floods of connects."""

import asyncio
import resource
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

from loadtests.support.child_process import child_process
from loadtests.support.ports import HOST

__all__ = ["flood", "slow_sockets"]

_HEAD = b"POST /v2/models/dga-lstm/infer HTTP/1.1\r\nHost: localhost\r\n"
_BEGINNINGS = (_HEAD + b"X-Slow: ", _HEAD + b"Content-Length: 100000\r\n\r\n")
_BYTE_S = 1.0
_STARTED_WITHIN_S = 2.0


@contextmanager
def slow_sockets(port: int, count: int, *, is_stubborn: bool) -> Iterator[None]:
    """Hold `count` connections that send a byte a second, half in a header and half in a body.

    Stubborn ones reconnect when they are closed.
    """
    with child_process(_run, port, count, is_stubborn):
        yield


@contextmanager
def flood(port: int, count: int, seconds: float) -> Iterator[None]:
    """Connect `count` times, evenly over `seconds`, and send nothing until the server closes."""
    with child_process(_run_flood, port, count, seconds):
        yield


def _run(port: int, count: int, is_stubborn: bool, parent: Connection) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(_slow(port, n, count, is_stubborn) for n in range(count)))

    _until_closed(all_of_them, parent, tell_after_s=_STARTED_WITHIN_S)


async def _slow(port: int, n: int, count: int, is_stubborn: bool) -> None:
    await asyncio.sleep(n / count * _STARTED_WITHIN_S / 2)
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(_BEGINNINGS[n % 2])
            await _trickle(reader, writer)
        if not is_stubborn:
            return
        await asyncio.sleep(_BYTE_S)


async def _trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a byte a second until the server closes."""
    closed = asyncio.create_task(reader.read())
    try:
        while not closed.done():
            writer.write(b"a")
            await asyncio.wait((closed,), timeout=_BYTE_S)
    finally:
        closed.cancel()
        writer.close()
        await asyncio.gather(closed, return_exceptions=True)


def _run_flood(port: int, count: int, seconds: float, parent: Connection) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    async def all_of_them() -> None:
        await asyncio.gather(*(_hold(port, n / count * seconds) for n in range(count)))

    _until_closed(all_of_them, parent, tell_after_s=0.0)


async def _hold(port: int, after_s: float) -> None:
    await asyncio.sleep(after_s)
    with suppress(OSError):
        reader, writer = await asyncio.open_connection(HOST, port)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()


def _until_closed(
    work: Callable[[], Awaitable[None]], parent: Connection, tell_after_s: float
) -> None:
    """Run `work` until the parent closes its end of the pipe."""

    async def main() -> None:
        closed = asyncio.Event()
        asyncio.get_running_loop().add_reader(parent.fileno(), closed.set)
        working = asyncio.ensure_future(work())
        await asyncio.sleep(tell_after_s)
        parent.send(None)
        await closed.wait()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    asyncio.run(main())
