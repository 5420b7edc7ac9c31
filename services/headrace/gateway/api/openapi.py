"""The OpenAPI document, from the rows of all endpoints."""

import re
from collections.abc import Iterable, Mapping, Sequence
from inspect import cleandoc

from headrace import __version__
from headrace.edge.exchange import MAX_TIMEOUT_S
from headrace.gateway.api.endpoint import JSON_TYPE, Endpoint, Schema, parameter
from headrace.gateway.api.openapi_errors import (
    REQUEST_ID_HEADER,
    error_responses,
    error_schemas,
    responses_of,
)
from headrace.gateway.api.openapi_schemas import Schemas
from headrace_models.names import MODEL_NAME_PATTERN, VERSION_NAME_PATTERN

__all__ = ["document"]

_NAME: Schema = {"type": "string", "pattern": MODEL_NAME_PATTERN}
_VERSION: Schema = {"type": "string", "pattern": VERSION_NAME_PATTERN}
# What a row does not say itself; the examples are names of the zoo.
_PATH_PARAMETERS: Mapping[str, Schema] = {
    "model": {"schema": _NAME, "example": "dga-lstm"},
    "version": {"schema": _VERSION, "example": "1"},
    "label": {"schema": _NAME, "example": "stable"},
}
_REQUEST_ID = parameter(
    "X-Request-Id",
    "header",
    {"type": "string", "pattern": "^[A-Za-z0-9-]{1,64}$"},
    "comes back, and is in the logs; one is made if none is given",
)
_TIMEOUT = parameter(
    "X-Request-Timeout",
    "header",
    {"type": "number", "minimum": 0.001, "maximum": MAX_TIMEOUT_S},
    "seconds from the last byte of the request to its answer",
)
_TIMING: Schema = {
    "Server-Timing": {
        "description": "where the time went, in milliseconds",
        "schema": {"type": "string"},
    }
}


def document(endpoints: Sequence[Endpoint]) -> dict[str, object]:
    """The whole document."""
    schemas = Schemas(endpoints)
    paths: dict[str, dict[str, object]] = {}
    for endpoint in endpoints:
        for path in endpoint.paths:
            operation = _operation(endpoint, path, schemas)
            paths.setdefault(path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "headrace",
            "version": __version__,
            "description": "CNN, LSTM and Transformer models, by several inference protocols.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": _tags(endpoints),
        "paths": paths,
        "components": {
            "schemas": schemas.components | error_schemas(),
            "responses": error_responses(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _tags(endpoints: Iterable[Endpoint]) -> list[Schema]:
    about = {endpoint.api.name: endpoint.api.about for endpoint in endpoints}
    return [{"name": name, "description": text} for name, text in about.items()]


def _operation(endpoint: Endpoint, path: str, schemas: Schemas) -> dict[str, object]:
    summary, _, rest = cleandoc(endpoint.handler.__doc__ or "").partition("\n\n")
    operation: dict[str, object] = {
        "summary": " ".join(summary.split()),
        "tags": [endpoint.api.name],
        "operationId": _operation_id(endpoint.method, path),
        "parameters": _parameters(endpoint, path),
        "responses": _answers(endpoint, schemas) | responses_of(endpoint, path),
        "security": [{}] if endpoint.is_public else [{}, {"key": []}],
    }
    if rest:
        operation["description"] = " ".join(rest.split())
    if content := _body(endpoint, schemas):
        operation["requestBody"] = {"required": endpoint.body_required, "content": content}
    return operation


def _operation_id(method: str, path: str) -> str:
    words = [method.lower(), *re.findall(r"\w+", path)]
    return "_".join([*words, "slash"] if path.endswith("/") else words)


def _parameters(endpoint: Endpoint, path: str) -> list[Schema]:
    found: list[Schema] = []
    for name in re.findall(r"\{(\w+)\}", path):
        facts = _PATH_PARAMETERS.get(name, {"schema": _NAME}) | endpoint.path_parameters.get(
            name, {}
        )
        found.append({"name": name, "in": "path", "required": True, **facts})
    found.append(_REQUEST_ID)
    if endpoint.runs_model:
        found.append(_TIMEOUT)
    return [*found, *endpoint.parameters]


def _body(endpoint: Endpoint, schemas: Schemas) -> dict[str, Schema]:
    content = dict(endpoint.body_media)
    if endpoint.body is None:
        return content
    json: Schema = {"schema": schemas.of_body(endpoint.body)}
    if endpoint.examples:
        json["examples"] = {title: {"value": body} for title, body in endpoint.examples.items()}
    return {JSON_TYPE: json, **content}


def _answers(endpoint: Endpoint, schemas: Schemas) -> dict[str, object]:
    content = dict(endpoint.answer_media)
    if endpoint.answer is not None:
        content = {JSON_TYPE: {"schema": schemas.of_answer(endpoint.answer)}, **content}
    if not content:
        return {}
    timing = _TIMING if endpoint.runs_model else {}
    headers = {**REQUEST_ID_HEADER, **timing, **endpoint.headers}
    return {"200": {"description": "the answer", "headers": headers, "content": content}}
