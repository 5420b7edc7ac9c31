"""The API's own pages: its OpenAPI document, and Swagger UI over it, from installed files."""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

from headrace.edge.exchange import Response
from headrace.errors import UnknownRoute
from headrace.gateway.api.context import Call
from headrace.gateway.api.endpoint import Api, Endpoint, Schema

__all__ = ["ENDPOINTS"]

# The page's files and their kinds: these alone are served, whatever a path says.
ASSETS = {
    "swagger-ui-bundle.js": b"text/javascript; charset=utf-8",
    "swagger-ui.css": b"text/css; charset=utf-8",
}
_PAGE = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>headrace</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="page"></div><script src="/docs/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "/openapi.json", dom_id: "#page", deepLinking: true,
validatorUrl: null})</script>
</body></html>
"""
_CACHED = (b"cache-control", b"max-age=86400")


class Document(TypedDict):
    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]


async def docs(call: Call) -> Response:
    """This document as a page, by Swagger UI; it loads nothing from other servers."""
    return Response(200, _PAGE, b"text/html; charset=utf-8")


async def asset(call: Call) -> Response:
    """A file of that page."""
    name = call.exchange.params["asset"]
    if name not in ASSETS:
        raise UnknownRoute("no such path")
    return Response(200, _read(name), ASSETS[name], [_CACHED])


async def openapi(call: Call) -> Response:
    """This document."""
    return Response(200, call.context.openapi)


@cache
def _read(name: str) -> bytes:
    """A file of Swagger UI. Its package is only found: to import it would import its framework."""
    found = importlib.util.find_spec("fastapi_offline")
    assert found is not None, "it is a dependency"
    assert found.submodule_search_locations is not None
    return (Path(found.submodule_search_locations[0]) / "static" / name).read_bytes()


_DOCS = Api(name="docs", about="This document.", is_always_answered=True)
_TEXT: Schema = {"schema": {"type": "string"}}

ENDPOINTS = (
    Endpoint(
        method="GET",
        paths=("/docs",),
        handler=docs,
        api=_DOCS,
        answer_media={"text/html": _TEXT},
    ),
    Endpoint(
        method="GET",
        paths=("/docs/{asset}",),
        handler=asset,
        api=_DOCS,
        path_parameters={
            "asset": {
                "schema": {"type": "string", "enum": sorted(ASSETS)},
                "example": "swagger-ui.css",
            }
        },
        answer_media={"text/javascript": _TEXT, "text/css": _TEXT},
    ),
    Endpoint(method="GET", paths=("/openapi.json",), handler=openapi, api=_DOCS, answer=Document),
)
