"""Which pages of other sites may read answers: the headers that tell a browser so (the Fetch standard's CORS)."""

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import TypeVar

from headrace.edge.exchange import Exchange, Response
from headrace.edge.routes import Route, verbs

__all__ = ["ANY_ORIGIN", "PREFLIGHT", "Cors", "preflights"]

H = TypeVar("H")

ANY_ORIGIN = "*"
# The endpoint of a browser's question before a request.
PREFLIGHT = "preflight"
_ALLOWED = b"access-control-allow-origin"
_READABLE = (
    b"x-request-id, server-timing, retry-after, inference-header-content-length, content-encoding, x-truncated, allow, "
    b"www-authenticate, accept-encoding"
)
# For who does not say what a page is to send; clients made for browsers send headers of their own beside these.
_SENDABLE = b"authorization, content-type, content-encoding, x-request-id, x-request-timeout, inference-header-content-length"
_TOKENS = re.compile(rb"[\w!#$%&'*+.^`|~-]+(, ?[\w!#$%&'*+.^`|~-]+)*")
_MAX_ASKED_BYTES = 1024
_REMEMBERED_S = b"7200"  # no browser remembers for longer

Headers = Sequence[tuple[bytes, bytes]]


class Cors:
    """Pages of `origins` may read what a server answers, with the browser's credentials if these are listed by name;
    with ANY_ORIGIN among them every page may, without.
    """

    def __init__(self, origins: Collection[str]) -> None:
        vary, exposed = (b"vary", b"origin"), (b"access-control-expose-headers", _READABLE)
        self._of_listed: dict[bytes | None, Headers] = {
            origin.encode(): (
                vary,
                (_ALLOWED, origin.encode()),
                (b"access-control-allow-credentials", b"true"),
                exposed,
            )
            for origin in origins
            if origin != ANY_ORIGIN
        }
        self._of_others: Headers = (
            (vary, (_ALLOWED, b"*"), exposed) if ANY_ORIGIN in origins else (vary,)
        )

    def headers(self, exchange: Exchange) -> Headers:
        """What belongs to every answer to this request, to refusals too: else the page cannot read them."""
        return self._of_listed.get(exchange.headers.get(b"origin"), self._of_others)


def preflights(routes: Iterable[Route[H]]) -> list[Route[Callable[..., Awaitable[Response]]]]:
    """For each path of `routes` the route of the question before a request: which verbs and headers may it have?"""
    found: dict[str, list[str]] = {}
    for route in routes:
        found.setdefault(route.template, []).append(route.method)
    return [
        Route("OPTIONS", path, PREFLIGHT, _permission(", ".join(verbs(m)).encode()))
        for path, m in found.items()
    ]


def _permission(methods: bytes) -> Callable[..., Awaitable[Response]]:
    """Answers such a question; whose pages the answer is for is said by the headers that every answer has."""
    headers = (
        (b"allow", methods),
        (b"access-control-allow-methods", methods),
        (b"access-control-max-age", _REMEMBERED_S),
    )

    async def permit(_: object, exchange: Exchange, __: bytes) -> Response:
        return Response(
            204, headers=(*headers, (b"access-control-allow-headers", _sendable(exchange)))
        )

    return permit


def _sendable(exchange: Exchange) -> bytes:
    """Whatever headers the page is to send: those that mean nothing here do no harm, and those that do are checked."""
    asked = exchange.headers.get(b"access-control-request-headers", b"")
    return asked if len(asked) <= _MAX_ASKED_BYTES and _TOKENS.fullmatch(asked) else _SENDABLE
