"""A lean HTTP/1.1 client for load tests: keep-alive connections, one request at a time on each, no redirects.

A general client took 1 ms of processor for a request, so that on two cores the driver disturbed what it measured.
"""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import cast
from urllib.parse import urlsplit

import httptools
from loadtests.inputs import CheckedRequest

__all__ = ["BROKEN", "GIVEN_UP", "HttpClient", "Reply"]

# A connection that broke has no status; nor has an answer that was not waited for.
BROKEN, GIVEN_UP = 0, -1


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: an HTTP status, or BROKEN, or GIVEN_UP."""

    status: int
    body: bytes = b""


class _Connection(asyncio.Protocol):
    """One connection. Its parser's callbacks are the methods on_body and on_message_complete."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Reply] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes) -> "asyncio.Future[Reply]":
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._settle(Reply(BROKEN))

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_message_complete(self) -> None:
        reply = Reply(self._parser.get_status_code(), b"".join(self._body))
        if not self._parser.should_keep_alive():
            self.close()
        self._parser = httptools.HttpResponseParser(self)
        self._body.clear()
        self._settle(reply)

    def _settle(self, reply: Reply) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(reply)


class HttpClient:
    """Sends shots to one server, over as many connections as there are requests in flight."""

    def __init__(self, url: str, deadline_s: float, patience_s: float) -> None:
        place = urlsplit(url)
        if place.scheme != "http" or place.hostname is None:
            raise ValueError(f"url: expected http://host:port, found {url}")
        self._address = (place.hostname, place.port or 80)
        self._path = place.path.rstrip("/")
        self._fixed_headers = {"Host": place.netloc, "X-Request-Timeout": f"{deadline_s:g}"}
        self._patience_s = patience_s
        self._idle: list[_Connection] = []
        self._encoded: dict[CheckedRequest, bytes] = {}

    async def __aenter__(self) -> "HttpClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for connection in self._idle:
            connection.close()

    async def connect(self, count: int) -> None:
        """Open connections in advance. Raises OSError if the server takes none."""
        self._idle += [await self._connected() for _ in range(count)]

    async def send(self, shot: CheckedRequest) -> Reply:
        """The reply to one request; it waits for no longer than the client's patience."""
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(self._patience_s):
                connection = self._take() or await self._connected()
                reply = await connection.ask(self.encoded(shot))
        except TimeoutError:
            if connection is not None:
                connection.close()
            return Reply(GIVEN_UP)
        except OSError:
            return Reply(BROKEN)
        if connection.is_open:
            self._idle.append(connection)
        return reply

    def encoded(self, shot: CheckedRequest) -> bytes:
        """The request as it goes over the wire."""
        if (encoded := self._encoded.get(shot)) is None:
            headers = {**self._fixed_headers, **shot.headers, "Content-Length": str(len(shot.body))}
            lines = [
                f"POST {self._path}{shot.path} HTTP/1.1",
                *(f"{name}: {value}" for name, value in headers.items()),
            ]
            encoded = self._encoded[shot] = "\r\n".join([*lines, "", ""]).encode() + shot.body
        return encoded

    def _take(self) -> _Connection | None:
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
        return None

    async def _connected(self) -> _Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            _Connection, *self._address
        )
        return connection
