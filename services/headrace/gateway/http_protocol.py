"""uvicorn's HTTP protocol with two changes: a whole answer is one object and one write, and a caller who leaves takes
the work along.

uvicorn's ASGI `send` takes an answer in two messages and checks every header of it with regular expressions, again for
each request. Our headers are our own, so that work buys nothing: measured, a third of the cost of a bare request.
Parsing, keep-alive, pipelining, flow control and shutdown stay uvicorn's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from headrace.edge.exchange import Receive, Response, Scope

__all__ = ["Application", "OneWriteProtocol"]

Application = Callable[[Scope, Receive, bytes | None], Awaitable[Response]]

_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {499: "Client Closed Request"}
_STATUS_LINES = {code: f"HTTP/1.1 {code} {phrase}\r\n".encode() for code, phrase in _PHRASES.items()}


_FAILED = Response(500, b'{"error":"the server failed on this request","code":"internal"}')


class OneWriteProtocol(HttpToolsProtocol):
    """Runs `config.app` as an Application for each request."""

    _running: "asyncio.Task[None] | None" = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._running is not None:
            self._running.cancel()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401 - uvicorn's signature
        self._running = task = self.loop.create_task(self._answer(cycle, app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    async def _answer(self, cycle: RequestResponseCycle, app: Application) -> None:
        whole_body = None if cycle.more_body else bytes(cycle.body)
        try:
            response = await app(cycle.scope, cycle.receive, whole_body)
        except Exception:
            self.logger.exception("the application failed")
            response = _FAILED
            cycle.keep_alive = False
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        if cycle.more_body:
            cycle.keep_alive = False  # the rest of a body that nobody reads must not be taken for a request
        cycle.transport.write(_bytes_of(response, cycle))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


def _bytes_of(response: Response, cycle: RequestResponseCycle) -> bytes:
    """Status line, headers and body."""
    parts = [
        _STATUS_LINES[response.status],
        b"content-type: ",
        response.content_type,
        b"\r\ncontent-length: %d\r\n" % len(response.body),
    ]
    for name, value in response.headers:
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
    if cycle.scope["method"] != "HEAD":
        parts.append(response.body)
    return b"".join(parts)
