"""Errors to HTTP: one table for the status, one place for the body."""

import logging
import math
from collections.abc import Mapping
from types import MappingProxyType

import orjson

from headrace import errors
from headrace.edge.exchange import ErrorShape, Response
from headrace.errors import KINDS, OUTCOMES, HeadraceError, Outcome

__all__ = ["ENDINGS", "LEFT", "STATUS", "as_ours", "problem", "status_of"]

log = logging.getLogger(__name__)

# OpenAI/Python, AsyncOpenAI/Python, OpenAI/JS, OpenAI/2.1.0 (.NET ...)
_OPENAI_CLIENT = b"OpenAI/"
_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}

# A subclass answers as the nearest class above it that is listed.
STATUS: dict[type[HeadraceError], int] = {
    HeadraceError: 500,
    errors.BadRequest: 400,
    errors.HeadersTooLarge: 431,
    errors.UriTooLong: 414,
    errors.ExpectationFailed: 417,
    errors.TooLarge: 413,
    errors.ReceiptTimeout: 408,
    errors.Misdirected: 421,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.QuotaExceeded: 429,
    errors.Unknown: 404,
    errors.WrongMethod: 405,
    errors.UnknownMethod: 501,
    errors.UnknownProtocol: 505,
    errors.UnsupportedMedia: 415,
    errors.Conflict: 409,
    errors.Unavailable: 503,
    errors.DeadlineExceeded: 504,
    errors.ClientGone: 499,
    errors.InferenceFailed: 500,
    errors.StartFailed: 500,
}

# The status that counts a request whose caller went away; it is never sent.
LEFT = STATUS[errors.ClientGone]


def problem(
    error: Exception,
    request_id: str,
    shape: ErrorShape = "own",
    headers: Mapping[bytes, bytes] = MappingProxyType({}),
) -> Response:
    """The answer to a failed request that had these `headers`."""
    error = as_ours(error)
    status = status_of(error)
    message = error.message[:200]
    body: dict[str, object]
    is_openais = _OPENAI_CLIENT in headers.get(b"user-agent", b"")
    if shape == "openai" or (shape == "shared" and is_openais):
        kind = _OPENAI_TYPES.get(
            status, "server_error" if status >= 500 else "invalid_request_error"
        )
        body = {"error": {"message": message, "type": kind, "param": None, "code": error.code}}
    else:
        body = {"error": message, "code": error.code, "request_id": request_id}
    return Response(status, orjson.dumps(body), headers=_headers(error))


def as_ours(error: Exception) -> HeadraceError:
    """The error that the caller may read. One outside our family is logged instead."""
    if isinstance(error, HeadraceError):
        return error
    if isinstance(error, MemoryError):  # large bodies take it, smaller ones may still find room
        log.warning("no memory for a request")
        return errors.Overloaded("the server has no memory for this request now", retry_after_s=1)
    log.error("request failed", exc_info=error)
    return HeadraceError("the server failed on this request")


def status_of(error: HeadraceError) -> int:
    return _status(type(error))


def _status(kind: type[HeadraceError]) -> int:
    return next(STATUS[above] for above in kind.__mro__ if above in STATUS)


# All endings of a request.
ENDINGS: frozenset[tuple[int, Outcome]] = frozenset(
    {(200, "answered"), *((_status(kind), OUTCOMES[kind.code]) for kind in KINDS)}
)


def _headers(error: HeadraceError) -> list[tuple[bytes, bytes]]:
    headers = []
    if isinstance(error, errors.WrongMethod):
        headers.append((b"allow", error.allowed.encode()))
    if isinstance(error, errors.Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, errors.UnsupportedEncoding):
        headers.append((b"accept-encoding", b"gzip, deflate, identity"))
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after_s))).encode()))
    return headers
