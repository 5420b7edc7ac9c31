"""The endpoints of the data port: each module's rows, in the order of the document."""

from headrace.edge.exchange import Route
from headrace.gateway.api import (
    audio,
    classify,
    docs,
    embeddings,
    generate,
    health,
    infer,
    metadata,
    model_config,
    predict,
    repository,
    settings,
    statistics,
    status,
)
from headrace.gateway.api.context import Context
from headrace.gateway.api.endpoint import Endpoint

__all__ = ["ENDPOINTS", "ROUTES"]

ENDPOINTS: tuple[Endpoint, ...] = (
    *infer.ENDPOINTS,
    *classify.ENDPOINTS,
    *predict.ENDPOINTS,
    *audio.ENDPOINTS,
    *embeddings.ENDPOINTS,
    *generate.ENDPOINTS,
    *health.ENDPOINTS,
    *metadata.ENDPOINTS,
    *model_config.ENDPOINTS,
    *statistics.ENDPOINTS,
    *status.ENDPOINTS,
    *repository.ENDPOINTS,
    *settings.ENDPOINTS,
    *docs.ENDPOINTS,
)
ROUTES: tuple[Route[Context], ...] = tuple(
    route for endpoint in ENDPOINTS for route in endpoint.routes()
)
