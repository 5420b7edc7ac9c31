"""Health: of the process, of the platform, and of one model."""

from typing import Literal, TypedDict

from headrace.edge.exchange import Response
from headrace.errors import NotReady, ShuttingDown
from headrace.gateway.api.answers import json_response
from headrace.gateway.api.context import Call
from headrace.gateway.api.endpoint import V2_MODEL, Api, Endpoint, with_version
from headrace.gateway.api.metadata import METADATA
from headrace.gateway.api.versions import version_of

__all__ = ["ENDPOINTS"]


class Alive(TypedDict):
    status: Literal["alive"]


class Live(TypedDict):
    live: bool


class Ready(TypedDict):
    ready: bool


class ModelReady(TypedDict):
    name: str
    ready: bool


async def alive(call: Call) -> Response:
    """KServe's v1 liveness, at the root as its client asks for it."""
    return json_response(Alive(status="alive"))


async def live(call: Call) -> Response:
    """Tells whether this process should be kept."""
    return json_response(Live(live=True))


async def ready(call: Call) -> Response:
    """Tells whether every model without trouble can answer now, as recently proven; 503 if not."""
    context = call.context
    if context.admission.is_ending:
        raise ShuttingDown("the gateway is shutting down", retry_after_s=1)
    if not context.router.is_ready:
        raise NotReady(
            "not every model can answer now; `headrace status` names them", retry_after_s=1
        )
    return json_response(Ready(ready=True))


async def model_ready(call: Call) -> Response:
    """Tells whether the model can answer now, and does not fail again and again; 503 if not."""
    version = version_of(call)
    if not version.is_sound:
        raise version.not_ready()
    return json_response(ModelReady(name=version.spec.name, ready=True))


_HEALTH = Api(name="health", about="Is it alive, is it ready.", is_always_answered=True)

ENDPOINTS = (
    Endpoint(method="GET", paths=("/",), handler=alive, api=_HEALTH, answer=Alive),
    Endpoint(
        method="GET",
        paths=("/v2/health/live",),
        handler=live,
        api=_HEALTH,
        answer=Live,
        is_public=True,
    ),
    Endpoint(
        method="GET",
        paths=("/v2/health/ready",),
        handler=ready,
        api=_HEALTH,
        answer=Ready,
        is_public=True,
    ),
    Endpoint(
        method="GET",
        paths=with_version(V2_MODEL, "/ready"),
        handler=model_ready,
        api=METADATA,
        answer=ModelReady,
    ),
)
