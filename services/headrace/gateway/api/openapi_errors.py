"""Errors in the OpenAPI document: each status with its codes, from the one table, and which routes can end in it.

What no operation of the document can end in is left out of all: 405, 501 and 505 are of requests that are none of
these, and nobody is answered 499.
"""

from collections.abc import Sequence
from http import HTTPStatus

from headrace.edge.problems import LEFT, STATUS, shapes_of, status_of
from headrace.edge.routes import Route
from headrace.errors import KINDS
from headrace.gateway.api.endpoints import PUBLIC_PATHS, Handler
from headrace.gateway.api.openapi_bodies import ASKS_A_MODEL, TAKES_SEQUENCES
from headrace.gateway.api.openapi_schemas import REF, STRING, Schema, record

__all__ = ["REQUEST_ID_HEADER", "error_responses", "error_schemas", "responses_of"]

_OF_ALL = {400, 408, 414, 417, 421, 429, 431, 500, 503}
_OF_BODIES, _OF_KEYS, _OF_NAMES, _OF_MODELS, _OF_SEQUENCES = {413, 415}, {401}, {404}, {504}, {409}
# The schemas of each shape, and the name of a response that may have either.
_SHAPES = {"own": "Error", "openai": "OpenAIError"}
_EITHER = "AnyError"
REQUEST_ID_HEADER: Schema = {"X-Request-Id": {"required": True, "schema": STRING}}
_RETRY_AFTER: Schema = {
    "Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}
}
_HEADERS: dict[int, Schema] = {
    401: {"WWW-Authenticate": {"schema": STRING}},
    415: {"Accept-Encoding": {"description": "the encodings that are read", "schema": STRING}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}


def error_schemas() -> dict[str, Schema]:
    """The bodies of errors: ours, and OpenAI's for its endpoints; each status has the codes that it is answered with."""
    found: dict[str, Schema] = {}
    message: Schema = {**STRING, "maxLength": 200}
    for status, codes in _codes_by_status().items():
        code: Schema = {"type": "string", "enum": codes}
        openai = record(
            "message type param code",
            message=message,
            type=STRING,
            param={"type": "null"},
            code=code,
        )
        found[f"Error{status}"] = record(
            "error code request_id", error=message, code=code, request_id=STRING
        )
        found[f"OpenAIError{status}"] = record("error", error=openai)
    return found


def error_responses() -> dict[str, Schema]:
    schemas: dict[str, Sequence[str]] = {shape: [shape] for shape in _SHAPES.values()}
    schemas[_EITHER] = list(_SHAPES.values())
    return {
        f"{name}{status}": {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}",
            "headers": REQUEST_ID_HEADER | _HEADERS.get(status, {}),
            "content": {
                "application/json": {
                    "schema": {"anyOf": [{"$ref": f"{REF}{s}{status}"} for s in shapes]}
                }
            },
        }
        for status, codes in _codes_by_status().items()
        for name, shapes in schemas.items()
    }


def responses_of(route: Route[Handler]) -> dict[str, object]:
    """The errors that a route can end in, by status."""
    shapes = shapes_of(route.template)
    name = _EITHER if len(shapes) > 1 else _SHAPES[next(iter(shapes))]
    return {
        str(status): {"$ref": f"#/components/responses/{name}{status}"}
        for status in sorted(_statuses(route))
    }


def _statuses(route: Route[Handler]) -> set[int]:
    found = set(_OF_ALL)
    if route.method == "POST":
        found |= _OF_BODIES
    if route.template not in PUBLIC_PATHS:
        found |= _OF_KEYS
    if "{" in route.template or route.api == "embeddings":
        found |= _OF_NAMES
    if route.handler in ASKS_A_MODEL:
        found |= _OF_MODELS
    if route.handler in TAKES_SEQUENCES:
        found |= _OF_SEQUENCES
    return found | {403} if route.method == "POST" and route.api == "settings" else found


def _codes_by_status() -> dict[int, list[str]]:
    found: dict[int, set[str]] = {status: set() for status in STATUS.values() if status != LEFT}
    for kind in KINDS:
        if (status := status_of(kind(""))) in found:
            found[status].add(kind.code)
    return {status: sorted(codes) for status, codes in sorted(found.items())}
