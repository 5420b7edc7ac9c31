"""Errors to HTTP: one table for the status, one place for the body."""

import logging
import math

import orjson

from headrace import errors
from headrace.edge.exchange import Response
from headrace.errors import HeadraceError

__all__ = ["STATUS", "problem"]

log = logging.getLogger(__name__)

# A subclass answers as the nearest class above it that is listed.
STATUS: dict[type[HeadraceError], int] = {
    HeadraceError: 500,
    errors.BadRequest: 400,
    errors.HeadersTooLarge: 431,
    errors.UriTooLong: 414,
    errors.ExpectationFailed: 417,
    errors.TooLarge: 413,
    errors.ReceiptTimeout: 408,
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


def problem(error: Exception, request_id: str, path: str) -> Response:
    """The answer to a failed request. What is not of our family is logged here and named to nobody."""
    if not isinstance(error, HeadraceError):
        log.error("request %s failed", request_id, exc_info=error)
        error = HeadraceError("the server failed on this request")
    kind = next(k for k in type(error).__mro__ if k in STATUS)
    message = error.message[:200]
    body: dict[str, object]
    if path.removesuffix("/") == "/v1/embeddings":
        body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": error.code}}
    else:
        body = {"error": message, "code": error.code, "request_id": request_id}
    headers = []
    if isinstance(error, errors.WrongMethod):
        headers.append((b"allow", error.allowed.encode()))
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(math.ceil(error.retry_after_s)).encode()))
    return Response(STATUS[kind], orjson.dumps(body), headers=headers)
