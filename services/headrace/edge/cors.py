"""CORS, by the Fetch standard: headers that let pages of other sites read answers."""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from headrace.edge.exchange import Call, Exchange, Handler, Response, Route
from headrace.edge.routes import verbs

__all__ = ["ANY_ORIGIN", "Cors", "preflights"]

ANY_ORIGIN = "*"
_ALLOWED = b"access-control-allow-origin"
_READABLE = (
    b"x-request-id, server-timing, retry-after, inference-header-content-length, content-encoding, "
    b"x-truncated, allow, www-authenticate, accept-encoding"
)
# The answer to a question that names no headers; clients for browsers send others beside these.
_SENDABLE = (
    b"authorization, content-type, content-encoding, x-request-id, x-request-timeout, "
    b"inference-header-content-length"
)
_TOKENS = re.compile(rb"[\w!#$%&'*+.^`|~-]+(, ?[\w!#$%&'*+.^`|~-]+)*")
_MAX_WANTED_BYTES = 1024
_REMEMBERED_S = b"7200"  # no browser remembers for longer

Headers = Sequence[tuple[bytes, bytes]]


class Cors:
    """Lets pages of `origins` read answers, with the browser's credentials.

    With ANY_ORIGIN among them every page may, without credentials.
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
        """The headers of every answer to this request; a page needs them to read refusals, too."""
        return self._of_listed.get(exchange.headers.get(b"origin"), self._of_others)


def preflights(routes: Iterable[Route[Any]]) -> list[Route[Any]]:
    """The preflight route of each path: it answers which verbs and headers requests may have."""
    found: dict[str, list[str]] = {}
    for route in routes:
        found.setdefault(route.template, []).append(route.method)
    return [
        Route(
            method="OPTIONS",
            template=template,
            api="preflight",
            handler=_permission(", ".join(verbs(methods)).encode()),
            is_public=True,
            is_always_answered=True,
        )
        for template, methods in found.items()
    ]


def _permission(methods: bytes) -> Handler[object]:
    """Answers such a question; the headers that every answer has say whose pages may go on."""
    headers = (
        (b"allow", methods),
        (b"access-control-allow-methods", methods),
        (b"access-control-max-age", _REMEMBERED_S),
    )

    async def permit(call: Call[object]) -> Response:
        sendable = (b"access-control-allow-headers", _sendable(call.exchange))
        return Response(204, headers=(*headers, sendable))

    return permit


def _sendable(exchange: Exchange) -> bytes:
    """The headers that the page wants to send: they are checked where read, or harmless."""
    wanted = exchange.headers.get(b"access-control-request-headers", b"")
    return wanted if len(wanted) <= _MAX_WANTED_BYTES and _TOKENS.fullmatch(wanted) else _SENDABLE
