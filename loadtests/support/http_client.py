"""An HTTP client for load tests: keep-alive, one request at a time on each connection."""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

from loadtests.support.http_connection import BROKEN, GIVEN_UP, HttpConnection

from headrace.loadtest.checked_request import CheckedRequest

__all__ = ["BROKEN", "GIVEN_UP", "HttpClient", "Reply"]


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP status, BROKEN or GIVEN_UP, and the body."""

    status: int
    body: bytes = b""


class _Slot:
    """A connection and the reply that it owes."""

    def __init__(self) -> None:
        self.connection = HttpConnection(self)
        self._reply: asyncio.Future[Reply] | None = None

    def send(self, request: bytes) -> "asyncio.Future[Reply]":
        self._reply = asyncio.get_running_loop().create_future()
        self.connection.send(request)
        return self._reply

    def ended(self, connection: HttpConnection, status: int, body: bytes, *, keep: bool) -> None:
        if not keep:
            connection.close()
        self._resolve(Reply(status, body))

    def lost(self, _: HttpConnection) -> None:
        self._resolve(Reply(BROKEN))

    def _resolve(self, reply: Reply) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(reply)


class HttpClient:
    """Sends requests to one server, over as many connections as there are requests in flight."""

    def __init__(self, url: str, deadline_s: float, patience_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"url: expected http://host:port, found {url}")
        self._address = (parts.hostname, parts.port or 80)
        self._path = parts.path.rstrip("/")
        self._fixed_headers = {"Host": parts.netloc, "X-Request-Timeout": f"{deadline_s:g}"}
        self._patience_s = patience_s
        self._idle: list[_Slot] = []
        self._encoded: dict[CheckedRequest, bytes] = {}

    async def __aenter__(self) -> "HttpClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for slot in self._idle:
            slot.connection.close()

    async def connect(self, count: int) -> None:
        """Open connections in advance. Raises OSError if the server takes none."""
        self._idle += [await self._connect() for _ in range(count)]

    async def send(self, request: CheckedRequest) -> Reply:
        """The reply to one request, GIVEN_UP if it takes longer than the client's patience."""
        slot: _Slot | None = None
        try:
            async with asyncio.timeout(self._patience_s):
                slot = self._take() or await self._connect()
                reply = await slot.send(self.encoded(request))
        except TimeoutError:
            if slot is not None:
                slot.connection.close()
            return Reply(GIVEN_UP)
        except OSError:
            return Reply(BROKEN)
        if slot.connection.is_open:
            self._idle.append(slot)
        return reply

    def encoded(self, request: CheckedRequest) -> bytes:
        """The request as it goes over the wire."""
        if (encoded := self._encoded.get(request)) is None:
            headers = {
                **self._fixed_headers,
                **request.headers,
                "Content-Length": str(len(request.body)),
            }
            lines = [
                f"POST {self._path}{request.path} HTTP/1.1",
                *(f"{name}: {value}" for name, value in headers.items()),
            ]
            encoded = self._encoded[request] = "\r\n".join([*lines, "", ""]).encode() + request.body
        return encoded

    def _take(self) -> _Slot | None:
        while self._idle:
            if (slot := self._idle.pop()).connection.is_open:
                return slot
        return None

    async def _connect(self) -> _Slot:
        slot = _Slot()
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: slot.connection, *self._address)
        return slot
