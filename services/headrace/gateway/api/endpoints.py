"""The data port's routes."""

from collections.abc import Awaitable, Callable

from headrace.edge.cors import PREFLIGHT
from headrace.edge.exchange import Exchange, Response
from headrace.edge.routes import Route
from headrace.gateway.api import audio as stream
from headrace.gateway.api import docs as pages
from headrace.gateway.api import generate, oip, repository, v1
from headrace.gateway.api import settings as settings_routes
from headrace.gateway.api.context import Context

__all__ = ["ALWAYS_ANSWERED", "PUBLIC_PATHS", "ROUTES", "Handler"]

Handler = Callable[[Context, Exchange, bytes], Awaitable[Response]]

# Health and metadata are answered however full the gateway is.
ALWAYS_ANSWERED = frozenset({"health", "metadata", "docs", PREFLIGHT})
# What nobody needs a key for.
PUBLIC_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})

_V2, _V1 = "/v2/models/{model}", "/v1/models/{model}"
_VERSION, _LABEL = "/versions/{version}", "/labels/{label}"
_SHARED_MEMORY = ("/v2/systemsharedmemory", "/v2/cudasharedmemory")


def _of_versions(
    method: str, template: str, suffix: str, api: str, handler: Handler
) -> list[Route[Handler]]:
    """A route with and without a version in its path."""
    return [
        Route(method, f"{template}{version}{suffix}", api, handler) for version in ("", _VERSION)
    ]


def _of_shared_memory(method: str, suffix: str) -> list[Route[Handler]]:
    """A route of both kinds of it, which say that there is none: a clear refusal is better than an unknown path."""
    return [
        Route(method, kind + suffix, "settings", settings_routes.no_shared_memory)
        for kind in _SHARED_MEMORY
    ]


ROUTES: tuple[Route[Handler], ...] = (
    *_of_versions("POST", _V2, "/infer", "infer", oip.infer),
    Route("POST", _V1 + ":classify", "classify", v1.classify),
    Route("POST", _V1 + ":predict", "predict", v1.predict),
    Route("POST", _V1 + "/versions/{version}:predict", "predict", v1.predict),
    Route("POST", _V1 + "/labels/{label}:predict", "predict", v1.predict),
    *_of_versions("POST", _V1, ":stream", "stream", stream.listen),
    Route("POST", "/v1/embeddings", "embeddings", v1.embed),
    *_of_versions("POST", _V2, "/generate", "generate", generate.generate),
    *_of_versions("POST", _V2, "/generate_stream", "generate", generate.generate_stream),
    Route("GET", "/", "health", oip.alive),
    Route("GET", "/v2", "metadata", oip.server_metadata),
    Route("GET", "/v2/", "metadata", oip.server_metadata),
    Route("GET", "/v2/health/live", "health", oip.live),
    Route("GET", "/v2/health/ready", "health", oip.ready),
    Route("GET", "/v2/models", "metadata", oip.models),
    Route("POST", "/v2/repository/index", "metadata", repository.index),
    Route("GET", "/v2/models/stats", "metadata", oip.all_statistics),
    *_of_versions("GET", _V2, "", "metadata", oip.model_metadata),
    *_of_versions("GET", _V2, "/ready", "metadata", oip.model_ready),
    *_of_versions("GET", _V2, "/config", "metadata", oip.model_config),
    *_of_versions("GET", _V2, "/stats", "metadata", oip.model_statistics),
    Route("GET", "/v2/logging", "metadata", settings_routes.get_logging),
    Route("POST", "/v2/logging", "settings", settings_routes.set_logging),
    Route("GET", "/v2/trace/setting", "metadata", settings_routes.get_tracing),
    Route("POST", "/v2/trace/setting", "settings", settings_routes.set_tracing),
    Route("GET", _V2 + "/trace/setting", "metadata", settings_routes.get_tracing),
    Route("POST", _V2 + "/trace/setting", "settings", settings_routes.set_tracing),
    *_of_shared_memory("GET", "/status"),
    *_of_shared_memory("GET", "/region/{region}/status"),
    *_of_shared_memory("POST", "/region/{region}/register"),
    *_of_shared_memory("POST", "/region/{region}/unregister"),
    *_of_shared_memory("POST", "/unregister"),
    Route("GET", "/v1/models", "metadata", v1.models),
    *_of_versions("GET", _V1, "", "metadata", v1.model_status),
    Route("GET", _V1 + _LABEL, "metadata", v1.model_status),
    *_of_versions("GET", _V1, "/metadata", "metadata", v1.signatures),
    Route("GET", _V1 + _LABEL + "/metadata", "metadata", v1.signatures),
    Route("GET", "/docs", "docs", pages.docs),
    Route("GET", "/docs/{asset}", "docs", pages.asset),
    Route("GET", "/openapi.json", "docs", pages.openapi),
)
