"""The gateway in one process: its listening socket, the HTTP server on it, and the ASGI application."""

import asyncio
import itertools
import secrets
import socket
from collections.abc import Awaitable, Callable
from time import monotonic

import uvicorn

from headrace.errors import HeadraceError, StartFailed
from headrace.gateway.exchange import Exchange, Message, Receive, Response, Scope
from headrace.gateway.problems import problem
from headrace.gateway.routes import Doors, Found, find_route
from headrace.telemetry.events import GatewayEvents

__all__ = ["Gateway", "listen", "run_http", "watch_loop"]

_BACKLOG = 2048
KEEP_ALIVE_S = 75
DRAIN_S = 25
_LAG_PERIOD_S = 0.5
# Health and metadata are answered however full the gateway is.
_FREE_DOORS = frozenset({"health", "metadata"})

Send = Callable[[Message], Awaitable[None]]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that other gateways of this node may share. Raises StartFailed if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise StartFailed(f"cannot listen on {host}:{port}: {error.strerror}") from None
    sock.setblocking(False)
    return sock


class Gateway:
    """The ASGI application. Every request is counted once, with the status that it was answered with."""

    def __init__(self, doors: Doors, events: GatewayEvents) -> None:
        self._doors = doors
        self._events = events
        self._prefix = secrets.token_hex(6)
        self._ids = itertools.count()
        self._max_body_bytes = doors.admission.limits.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, f"{self._prefix}-{next(self._ids):x}", self._max_body_bytes)
        self._events.request_began()
        found = find_route(exchange.method, exchange.path)
        status, door = 499, "none" if isinstance(found, HeadraceError) else found.door
        try:
            response = await self._answer(found, exchange)
            status = response.status
            await send(_start(response, exchange))
            await send({"type": "http.response.body", "body": response.body})
        finally:
            seconds = monotonic() - exchange.began_s
            self._events.request_ended(exchange.model, exchange.version, door, status, seconds)

    async def _answer(self, found: Found | HeadraceError, exchange: Exchange) -> Response:
        try:
            if isinstance(found, HeadraceError):
                raise found.with_traceback(None)
            exchange.params = found.params
            if found.door in _FREE_DOORS:
                return await found.handler(self._doors, exchange)
            with self._doors.admission.place():
                return await found.handler(self._doors, exchange)
        except Exception as error:
            return problem(error, exchange.request_id, exchange.path)


def _start(response: Response, exchange: Exchange) -> Message:
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", b"%d" % len(response.body)),
        (b"x-request-id", exchange.request_id.encode()),
        *response.headers,
    ]
    return {"type": "http.response.start", "status": response.status, "headers": headers}


async def run_http(app: Gateway, sock: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; then answer what is in flight, take nothing new, and return within DRAIN_S."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True
    await serving


async def watch_loop(events: GatewayEvents) -> None:
    """Tell how late the loop runs a timer, for as long as the gateway lives."""
    while True:
        due_s = monotonic() + _LAG_PERIOD_S
        await asyncio.sleep(_LAG_PERIOD_S)
        events.loop_lagged(max(0.0, monotonic() - due_s))
