"""The application of a port: finds routes, asks the port's policy, answers, and reports ends."""

import itertools
import secrets
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Generic, Protocol, TypeVar

from headrace.edge.cors import Cors
from headrace.edge.exchange import NO_ROUTE, Call, ErrorShape, Exchange, Response, Route
from headrace.edge.names import Names
from headrace.edge.problems import LEFT, as_ours, problem, status_of
from headrace.edge.routes import RouteTable
from headrace.errors import HeadraceError
from headrace.telemetry.logs import request_id

__all__ = ["Policy", "RoutedApplication"]

C = TypeVar("C")


class Policy(Protocol):
    """A port's conditions for a request, beyond its name and its route."""

    def admit(self, exchange: Exchange, /) -> None:
        """Check a head whose route is found. Raises a HeadraceError to refuse it."""
        ...

    def slot(self, exchange: Exchange, /) -> AbstractContextManager[None]:
        """The slot to hold while the request is answered. Raises a HeadraceError without one."""
        ...

    def ended(self, exchange: Exchange, status: int, code: str, /) -> None:
        """Note the end of a request, once: its status, and the code of its error if any."""
        ...


class RoutedApplication(Generic[C]):
    """The application of a port whose handlers work with `context`.

    `names` are the port's own. Without `cors` no page of another site may read an answer.
    """

    def __init__(
        self,
        routes: Iterable[Route[C]],
        context: C,
        policy: Policy,
        names: Names,
        cors: Cors | None = None,
    ) -> None:
        self._routes = RouteTable(routes)
        self._context = context
        self._policy = policy
        self._names = names
        self._cors = cors
        self._prefix = secrets.token_hex(6)
        self._ids = itertools.count()

    def admit(self, exchange: Exchange, target: bytes) -> None:
        self._identify(exchange)
        path, _, exchange.query = target.partition(b"?")
        exchange.path = path.decode("latin-1")
        self._names.check(exchange, target)
        exchange.route, exchange.params = self._routes.find(exchange.method, target)
        self._policy.admit(exchange)

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
        try:
            with self._policy.slot(exchange):
                call = Call(self._context, exchange, body)
                return await exchange.route.handler(call), ""
        except Exception as error:
            ours = as_ours(error)
            return self._problem(exchange, ours), ours.code

    def refuse(self, exchange: Exchange, error: HeadraceError) -> Response:
        self._identify(exchange)
        self._policy.ended(exchange, status_of(error), error.code)
        return self._signed(self._problem(exchange, error), exchange)

    def left(self, exchange: Exchange) -> None:
        self._policy.ended(exchange, LEFT, "")

    def _identify(self, exchange: Exchange) -> None:
        if not exchange.request_id:
            exchange.request_id = exchange.given_id or f"{self._prefix}-{next(self._ids):x}"

    def _problem(self, exchange: Exchange, error: HeadraceError) -> Response:
        return problem(error, exchange.request_id, self._error_shape(exchange), exchange.headers)

    def _error_shape(self, exchange: Exchange) -> ErrorShape:
        if exchange.route is NO_ROUTE:
            return self._routes.error_shape(exchange.path)
        return exchange.route.errors

    def _signed(self, response: Response, exchange: Exchange) -> Response:
        """The response with the headers that all answers have."""
        status, body, content_type, headers = response
        signed = [(b"x-request-id", exchange.request_id.encode()), *headers]
        if self._cors is not None:
            signed += self._cors.headers(exchange)
        return Response(status, body, content_type, signed)
