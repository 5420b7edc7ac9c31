"""The repository's routes as the ASGI pages reach them."""

import re
import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from headrace.admin.repository import Desk, get_logging, index, load, set_logging, unload, unsupported
from headrace.edge.exchange import Exchange, Receive, Response, Scope
from headrace.edge.problems import problem
from headrace.errors import UnknownRoute, WrongMethod
from headrace.fleet.bodies import MAX_BODY_BYTES
from headrace.telemetry.logs import request_id

__all__ = ["answer"]

Handler = Callable[[Desk, Exchange, bytes], Awaitable[Response]]
_ROUTES: tuple[tuple[str, re.Pattern[str], Handler], ...] = (
    ("POST", re.compile(r"/v2/repository/index"), index),
    ("POST", re.compile(r"/v2/repository/models/(?P<model>[^/]+)/load"), load),
    ("POST", re.compile(r"/v2/repository/models/(?P<model>[^/]+)/unload"), unload),
    ("POST", re.compile(r"/v2/repository/[^/]+/(index|models/[^/]+/(load|unload))"), unsupported),
    ("GET", re.compile(r"/v2/logging"), get_logging),
    ("POST", re.compile(r"/v2/logging"), set_logging),
)


async def answer(desk: Desk, scope: Scope, receive: Receive) -> Response:
    exchange = Exchange(scope, receive, None, secrets.token_hex(8), MAX_BODY_BYTES)
    request_id.set(exchange.request_id)
    try:
        handler = _find(exchange, scope["raw_path"].decode("latin-1"))
        return await handler(desk, exchange, await exchange.body())
    except Exception as error:
        return problem(error, exchange.request_id, exchange.path)


def _find(exchange: Exchange, path: str) -> Handler:
    found = [(method, match, handler) for method, form, handler in _ROUTES if (match := form.fullmatch(path))]
    if not found:
        raise UnknownRoute("no such page")
    for method, match, handler in found:
        if method == exchange.method:
            exchange.params = {name: unquote(value) for name, value in match.groupdict().items()}
            return handler
    allowed = ", ".join(sorted({method for method, _, _ in found}))
    raise WrongMethod(f"expected {allowed}", allowed=allowed)
