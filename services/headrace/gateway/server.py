"""The gateway as an application: every request in, every answer out, counted once."""

import asyncio
import itertools
import secrets
from time import monotonic

from headrace.edge.exchange import Exchange, Receive, Response, Scope
from headrace.edge.problems import problem
from headrace.errors import HeadraceError
from headrace.gateway.routes import Doors, Found, find_route
from headrace.telemetry.events import GatewayEvents

__all__ = ["Gateway", "watch_loop"]

_LAG_PERIOD_S = 0.5
# Health and metadata are answered however full the gateway is.
_FREE_DOORS = frozenset({"health", "metadata"})


class Gateway:
    """The application. Every request is counted once, with the status that it was answered with."""

    def __init__(self, doors: Doors, events: GatewayEvents) -> None:
        self._doors = doors
        self._events = events
        self._prefix = secrets.token_hex(6)
        self._ids = itertools.count()
        events.watch_in_flight(lambda: doors.admission.in_flight)
        self._max_body_bytes = doors.admission.limits.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, whole_body: bytes | None) -> Response:
        exchange = Exchange(scope, receive, whole_body, f"{self._prefix}-{next(self._ids):x}", self._max_body_bytes)
        found = find_route(exchange.method, exchange.path)
        status, door = 499, "none" if isinstance(found, HeadraceError) else found.door
        try:
            response = await self._answer(found, exchange)
            status = response.status
        finally:
            seconds = monotonic() - exchange.began_s
            self._events.request_ended(exchange.model, exchange.version, door, status, seconds)
        return response._replace(headers=[(b"x-request-id", exchange.request_id.encode()), *response.headers])

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


async def watch_loop(events: GatewayEvents) -> None:
    """Tell how late the loop runs a timer, for as long as the gateway lives."""
    while True:
        due_s = monotonic() + _LAG_PERIOD_S
        await asyncio.sleep(_LAG_PERIOD_S)
        events.loop_lagged(max(0.0, monotonic() - due_s))
