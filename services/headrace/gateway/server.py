"""The gateway as an application: every request is admitted or refused by its head, answered, and counted once."""

import asyncio
import itertools
import secrets
from collections.abc import Mapping
from time import monotonic
from typing import cast

from headrace.edge.exchange import Exchange, Response
from headrace.edge.problems import problem, status_of
from headrace.edge.routes import RouteTable
from headrace.errors import HeadraceError
from headrace.gateway.asking import Doors
from headrace.gateway.media import check_media
from headrace.gateway.routes import FREE_DOORS, PUBLIC_PATHS, ROUTES, Handler
from headrace.keys import Key, KeyRing
from headrace.telemetry.events import GatewayEvents
from headrace.telemetry.logs import request_id

__all__ = ["Gateway", "watch_loop"]

_LAG_PERIOD_S = 0.1
_LEFT = 499


class Gateway:
    """The application of the data port. Without `keys` nobody needs one; with them, all but health does."""

    def __init__(
        self, doors: Doors, events: GatewayEvents, keys: KeyRing | None = None, bodies: Mapping[str, int] | None = None
    ) -> None:
        self._doors = doors
        self._events = events
        self._keys = keys
        self._bodies = bodies or {}
        self._routes: RouteTable[Handler] = RouteTable(ROUTES)
        self._prefix = secrets.token_hex(6)
        self._ids = itertools.count()
        events.watch_in_flight(lambda: doors.admission.in_flight)

    def admit(self, exchange: Exchange, target: bytes) -> None:
        """By the head alone: the path, then the key and its quota, then room, then the kind of body."""
        self._name(exchange)
        exchange.path = target.partition(b"?")[0].decode("latin-1")
        route, params = self._routes.find(exchange.method, target)
        exchange.params, exchange.door, exchange.handler = params, route.door, route.handler
        if self._keys is not None and route.template not in PUBLIC_PATHS:
            key = self._keys.authenticate(exchange.header(b"authorization"))
            self._keys.take(key)
            exchange.key = key
        if route.door not in FREE_DOORS:
            self._doors.admission.check()
        if exchange.method == "POST":
            check_media(route.door, exchange)
            exchange.max_body_bytes = self._bodies.get(params.get("model", ""), exchange.max_body_bytes)

    async def answer(self, exchange: Exchange, body: bytes) -> Response:
        request_id.set(exchange.request_id)
        status, code = _LEFT, "client_gone"
        try:
            response, code = await self._answer(exchange, body)
            status = response.status
        finally:
            self._ended(exchange, status, code)
        return _named(response, exchange)

    async def _answer(self, exchange: Exchange, body: bytes) -> tuple[Response, str]:
        """The response, and the code of the error that it tells of, if it does."""
        handler = cast(Handler, exchange.handler)
        try:
            if exchange.door in FREE_DOORS:
                return await handler(self._doors, exchange, body), ""
            with self._doors.admission.place():
                return await handler(self._doors, exchange, body), ""
        except Exception as error:
            code = error.code if isinstance(error, HeadraceError) else HeadraceError.code
            return problem(error, exchange.request_id, exchange.path), code

    def refuse(self, exchange: Exchange, error: HeadraceError) -> Response:
        self._name(exchange)
        self._ended(exchange, status_of(error), error.code)
        return _named(problem(error, exchange.request_id, exchange.path), exchange)

    def left(self, exchange: Exchange) -> None:
        self._ended(exchange, _LEFT, "client_gone")

    def _name(self, exchange: Exchange) -> None:
        if not exchange.request_id:
            exchange.request_id = exchange.given_id or f"{self._prefix}-{next(self._ids):x}"

    def _ended(self, exchange: Exchange, status: int, code: str) -> None:
        if exchange.key is not None and self._keys is not None:
            self._keys.give_back(cast(Key, exchange.key))
            exchange.key = None
        seconds = monotonic() - exchange.began_s
        self._events.request_ended(exchange.model, exchange.version, exchange.door, status, seconds)
        if code:
            self._events.request_failed(exchange.door, code)


def _named(response: Response, exchange: Exchange) -> Response:
    return response._replace(headers=[(b"x-request-id", exchange.request_id.encode()), *response.headers])


async def watch_loop(events: GatewayEvents) -> None:
    """Tell how late the loop runs a timer, for as long as the gateway lives."""
    while True:
        due_s = monotonic() + _LAG_PERIOD_S
        await asyncio.sleep(_LAG_PERIOD_S)
        events.loop_lagged(max(0.0, monotonic() - due_s))
