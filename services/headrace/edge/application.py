"""An application out of a table of routes: finds the route, asks the port's policy, answers, tells how it ended."""

import itertools
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from typing import Generic, Protocol, TypeVar, cast

from headrace.edge.cors import Cors
from headrace.edge.exchange import Exchange, Response
from headrace.edge.names import Names
from headrace.edge.problems import LEFT, as_ours, problem, status_of
from headrace.edge.routes import Route, RouteTable
from headrace.errors import HeadraceError
from headrace.telemetry.logs import request_id

__all__ = ["Policy", "RoutedApplication"]

A = TypeVar("A")


class Policy(Protocol):
    """What a port asks of a request beyond its route."""

    def admit(self, exchange: Exchange, template: str) -> None:
        """Look at a head whose route is found. Raises a HeadraceError to refuse it."""
        ...

    def place(self, exchange: Exchange) -> AbstractContextManager[None]:
        """Held while the request is answered. Raises a HeadraceError if there is none."""
        ...

    def ended(self, exchange: Exchange, status: int, code: str) -> None:
        """Told once of every request: its status, and the code of the error that it ended in, if it did."""
        ...


class RoutedApplication(Generic[A]):
    """The Application of a port; handlers get `at`, what they work with, the exchange and the whole body.

    `names` are the port's own. Without `cors` no page of another site is told anything.
    """

    def __init__(
        self,
        routes: Iterable[Route[Callable[[A, Exchange, bytes], Awaitable[Response]]]],
        at: A,
        policy: Policy,
        names: Names,
        cors: Cors | None = None,
    ) -> None:
        self._routes = RouteTable(routes)
        self._at = at
        self._policy = policy
        self._names = names
        self._cors = cors
        self._prefix = secrets.token_hex(6)
        self._ids = itertools.count()

    def admit(self, exchange: Exchange, target: bytes) -> None:
        self._name(exchange)
        path, _, exchange.query = target.partition(b"?")
        exchange.path = path.decode("latin-1")
        self._names.check(exchange, target)
        route, params = self._routes.find(exchange.method, target)
        exchange.params, exchange.api, exchange.handler = params, route.api, route.handler
        self._policy.admit(exchange, route.template)

    async def answer(self, exchange: Exchange, body: bytes) -> Response:
        request_id.set(exchange.request_id)
        status, code = LEFT, ""
        try:
            response, code = await self._answer(exchange, body)
            status = response.status
        finally:
            self._policy.ended(exchange, status, code)
        return self._signed(response, exchange)

    async def _answer(self, exchange: Exchange, body: bytes) -> tuple[Response, str]:
        handler = cast(Callable[[A, Exchange, bytes], Awaitable[Response]], exchange.handler)
        try:
            with self._policy.place(exchange):
                return await handler(self._at, exchange, body), ""
        except Exception as error:
            ours = as_ours(error)
            return problem(ours, exchange.request_id, exchange.path, exchange.headers), ours.code

    def refuse(self, exchange: Exchange, error: HeadraceError) -> Response:
        self._name(exchange)
        self._policy.ended(exchange, status_of(error), error.code)
        return self._signed(
            problem(error, exchange.request_id, exchange.path, exchange.headers), exchange
        )

    def left(self, exchange: Exchange) -> None:
        self._policy.ended(exchange, LEFT, "")

    def _name(self, exchange: Exchange) -> None:
        if not exchange.request_id:
            exchange.request_id = exchange.given_id or f"{self._prefix}-{next(self._ids):x}"

    def _signed(self, response: Response, exchange: Exchange) -> Response:
        """With the headers that all answers have."""
        status, body, content_type, headers = response
        signed = [(b"x-request-id", exchange.request_id.encode()), *headers]
        if self._cors is not None:
            signed += self._cors.headers(exchange)
        return Response(status, body, content_type, signed)
