"""A lean HTTP/1.1 connection for load tests: one request at a time, and callbacks instead of tasks.

A general client took 1 ms of processor for a request, so that on two cores the driver disturbed
what it measured.
"""

import asyncio
from typing import Protocol, cast

import httptools

__all__ = ["BROKEN", "GIVEN_UP", "HttpConnection", "Listener"]

# Stand for a status: of a connection that broke, and of an answer that was not waited for.
BROKEN, GIVEN_UP = 0, -1


class Listener(Protocol):
    """Receives what happens on a connection."""

    def ended(
        self, connection: "HttpConnection", status: int, body: bytes, *, keep: bool
    ) -> None: ...
    def lost(self, connection: "HttpConnection") -> None: ...


class HttpConnection(asyncio.Protocol):
    """One connection. Its parser's callbacks are the methods on_body and on_message_complete.

    `number` is the listener's own mark of the request in flight.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._transport: asyncio.Transport | None = None
        self.number = -1

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes) -> None:
        assert self._transport is not None
        self._transport.write(request)

    def close(self) -> None:
        """Reset the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._listener.lost(self)

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        body = self._body
        self._body = b""
        status = self._parser.get_status_code()
        self._listener.ended(self, status, body, keep=self._parser.should_keep_alive())
