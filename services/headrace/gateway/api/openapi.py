"""The OpenAPI document: every route of the data port, with its parameters, its bodies and its answers."""

from collections.abc import Mapping
from functools import cache
from inspect import cleandoc
from re import findall

from headrace import __version__
from headrace.edge.exchange import MAX_TIMEOUT_S
from headrace.edge.routes import Route
from headrace.gateway.api import audio as stream
from headrace.gateway.api import docs as pages
from headrace.gateway.api import oip, v1
from headrace.gateway.api.endpoints import PUBLIC_PATHS, ROUTES, Handler
from headrace.gateway.api.openapi_bodies import ASKS_A_MODEL, EXAMPLE_PARAMS, MEDIA
from headrace.gateway.api.openapi_errors import (
    REQUEST_ID_HEADER,
    error_responses,
    error_schemas,
    responses_of,
)
from headrace.gateway.api.openapi_schemas import TOP_K, Schema, schemas
from headrace.gateway.api.openapi_stream import STREAM_PARAMETERS, stream_schemas
from headrace_models.names import MODEL_NAME_PATTERN, VERSION_NAME_PATTERN

__all__ = ["document"]

_TAGS = {
    "infer": "Tensors in, tensors out.",
    "classify": "Photos or texts in, labels out.",
    "stream": "Audio in, chunk by chunk; speech out.",
    "predict": "TensorFlow GatewayHandle's rows and columns.",
    "embeddings": "OpenAI's embeddings.",
    "generate": "Triton's flat objects.",
    "health": "Is it alive, is it ready.",
    "metadata": "What is served, and what it did.",
    "settings": "What is logged and traced.",
    "docs": "This document.",
}
_NAME: Schema = {"type": "string", "pattern": MODEL_NAME_PATTERN}
_PARAMS: dict[str, Schema] = {
    "model": _NAME,
    "version": {"type": "string", "pattern": VERSION_NAME_PATTERN},
    "label": _NAME,
    "region": _NAME,
    "asset": {"type": "string", "enum": sorted(pages.ASSETS)},
}
_REQUEST_ID: Schema = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "comes back, and is in the logs; one is made if none is given",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9-]{1,64}$"},
}
_TIMEOUT: Schema = {
    "name": "X-Request-Timeout",
    "in": "header",
    "description": "seconds from the last byte of the request to its answer",
    "schema": {"type": "number", "minimum": 0.001, "maximum": MAX_TIMEOUT_S},
}
_INFER_PARAMETERS: list[Schema] = [
    {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "bytes of the JSON part; 0: the body is the bytes of one row of the only input",
        "schema": {"type": "integer", "minimum": 0},
    },
    {
        "name": "Content-Encoding",
        "in": "header",
        "schema": {"type": "string", "enum": ["gzip", "deflate", "identity"]},
    },
    {
        "name": "Accept-Encoding",
        "in": "header",
        "description": "this one alone is a wish; a list is what HTTP libraries send by themselves",
        "schema": {"type": "string", "enum": ["gzip", "deflate"]},
    },
]
_TOP_K: Schema = {
    "name": "top_k",
    "in": "query",
    "description": "the most classes of each item, if the body does not say it",
    "schema": TOP_K,
}
# What a handler reads beside the parameters that many have.
_OF_HANDLERS: dict[Handler, list[Schema]] = {
    oip.infer: _INFER_PARAMETERS,
    stream.listen: STREAM_PARAMETERS,
    v1.classify: [_TOP_K],
}


@cache
def document() -> Mapping[str, object]:
    """The whole document; built once, from the table of routes."""
    paths: dict[str, dict[str, object]] = {}
    for route in ROUTES:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "headrace",
            "version": __version__,
            "description": "CNN, LSTM and Transformer models by the Open Inference Protocol and other endpoints.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas() | stream_schemas() | error_schemas(),
            "responses": error_responses(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route[Handler]) -> dict[str, object]:
    media = MEDIA[route.handler]
    summary, _, rest = cleandoc(route.handler.__doc__ or "").partition("\n\n")
    operation: dict[str, object] = {
        "summary": " ".join(summary.split()),
        "tags": [route.api],
        "operationId": _operation_id(route),
        "parameters": _parameters(route),
        "responses": _answers(route) | responses_of(route),
        "security": [{}] if route.template in PUBLIC_PATHS else [{}, {"key": []}],
    }
    if rest:
        operation["description"] = " ".join(rest.split())
    if media.body:
        operation["requestBody"] = {"required": media.body_required, "content": media.body}
    return operation


def _operation_id(route: Route[Handler]) -> str:
    words = [route.method.lower(), *findall(r"\w+", route.template)]
    return "_".join([*words, "slash"] if route.template.endswith("/") else words)


def _parameters(route: Route[Handler]) -> list[Schema]:
    names = findall(r"\{(\w+)\}", route.template)
    examples = EXAMPLE_PARAMS | ({"model": "silero-vad"} if route.handler is stream.listen else {})
    found: list[Schema] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": _PARAMS[name],
            "example": examples[name],
        }
        for name in names
    ]
    found.append(_REQUEST_ID)
    if route.handler in ASKS_A_MODEL:
        found.append(_TIMEOUT)
    return found + _OF_HANDLERS.get(route.handler, [])


def _answers(route: Route[Handler]) -> dict[str, object]:
    media = MEDIA[route.handler]
    if not media.answer:
        return {}
    headers = REQUEST_ID_HEADER | dict(media.headers)
    return {"200": {"description": "the answer", "headers": headers, "content": media.answer}}
