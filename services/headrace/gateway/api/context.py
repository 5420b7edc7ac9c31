"""The parts of a gateway that the handlers of the data port work with."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from headrace.edge import exchange
from headrace.edge.budget import Budget
from headrace.edge.origin_check import OriginCheck
from headrace.gateway.admission import Admission
from headrace.gateway.offload import Offload
from headrace.gateway.routing.response_cache import ResponseCache
from headrace.gateway.routing.router import Router
from headrace.telemetry.logs import LogSettings

__all__ = ["Call", "Context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The parts of a gateway that its handlers use, for as long as it serves.

    `labels` are names for versions: model -> label -> version. `inflated` counts the bytes that
    compressed bodies have once inflated. `origin_check` decides whose steps of sequences are taken.
    `openapi` is the served document.
    """

    router: Router
    cache: ResponseCache
    admission: Admission
    offload: Offload
    labels: Mapping[str, Mapping[str, str]]
    max_inflated_bytes: int
    inflated: Budget
    origin_check: OriginCheck
    change_logging: Callable[[LogSettings], Awaitable[LogSettings]]
    openapi: bytes


# The argument of each handler.
Call = exchange.Call[Context]
