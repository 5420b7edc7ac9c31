"""Errors in the OpenAPI document: each status with its codes, and the endpoints that answer it.

405, 501 and 505 are omitted: no documented operation answers them. 499 is never sent.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from headrace.edge.problems import LEFT, STATUS, status_of
from headrace.errors import KINDS
from headrace.gateway.api.endpoint import JSON_TYPE, Endpoint, Schema

__all__ = ["REQUEST_ID_HEADER", "error_responses", "error_schemas", "responses_of"]

_STRING: Schema = {"type": "string"}
_OF_ALL = {400, 408, 414, 417, 421, 429, 431, 500, 503}
# The names of responses by their shape, and the schemas that each may have.
_NAMES = {"own": "Error", "openai": "OpenAIError", "shared": "AnyError"}
_SCHEMAS: Mapping[str, Sequence[str]] = {
    "Error": ["Error"],
    "OpenAIError": ["OpenAIError"],
    "AnyError": ["Error", "OpenAIError"],
}
REQUEST_ID_HEADER: Schema = {"X-Request-Id": {"required": True, "schema": _STRING}}
_RETRY_AFTER: Schema = {
    "Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}
}
_HEADERS: dict[int, Schema] = {
    401: {"WWW-Authenticate": {"schema": _STRING}},
    415: {"Accept-Encoding": {"description": "the encodings that are read", "schema": _STRING}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}


def error_schemas() -> dict[str, Schema]:
    """The bodies of errors, in our shape and in OpenAI's: one for each status, with its codes."""
    found: dict[str, Schema] = {}
    message: Schema = {**_STRING, "maxLength": 200}
    for status, codes in _codes_by_status().items():
        code: Schema = {"type": "string", "enum": codes}
        openai = _record(message=message, type=_STRING, param={"type": "null"}, code=code)
        found[f"Error{status}"] = _record(error=message, code=code, request_id=_STRING)
        found[f"OpenAIError{status}"] = _record(error=openai)
    return found


def _record(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def error_responses() -> dict[str, Schema]:
    return {
        f"{name}{status}": {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}",
            "headers": REQUEST_ID_HEADER | _HEADERS.get(status, {}),
            "content": {
                JSON_TYPE: {
                    "schema": {
                        "anyOf": [{"$ref": f"#/components/schemas/{s}{status}"} for s in schemas]
                    }
                }
            },
        }
        for status, codes in _codes_by_status().items()
        for name, schemas in _SCHEMAS.items()
    }


def responses_of(endpoint: Endpoint, path: str) -> dict[str, object]:
    """The errors that an endpoint answers at a path, by status."""
    name = _NAMES[endpoint.errors]
    return {
        str(status): {"$ref": f"#/components/responses/{name}{status}"}
        for status in sorted(_statuses(endpoint, path))
    }


def _statuses(endpoint: Endpoint, path: str) -> set[int]:
    conditional = {
        401: not endpoint.is_public,
        403: endpoint.changes_server,
        404: "{" in path or endpoint.names_model(path),
        409: endpoint.takes_sequences,
        413: endpoint.method == "POST",
        415: endpoint.method == "POST",
        504: endpoint.runs_model,
    }
    return _OF_ALL | {status for status, is_possible in conditional.items() if is_possible}


def _codes_by_status() -> dict[int, list[str]]:
    found: dict[int, set[str]] = {status: set() for status in STATUS.values() if status != LEFT}
    for kind in KINDS:
        if (status := status_of(kind(""))) in found:
            found[status].add(kind.code)
    return {status: sorted(codes) for status, codes in sorted(found.items())}
