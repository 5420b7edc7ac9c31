"""The statistics extension: each model's counts and times since it was loaded."""

import asyncio
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import Meta

from headrace.edge.exchange import Response
from headrace.errors import HeadraceError
from headrace.gateway.api.answers import Written, json_response
from headrace.gateway.api.context import Call
from headrace.gateway.api.endpoint import V2_MODEL, Endpoint, with_version
from headrace.gateway.api.metadata import METADATA
from headrace.gateway.api.versions import version_of, visible_versions
from headrace.gateway.routing.version import Version
from headrace.inference.statistics import BatchStats, InferenceStats, Statistics, merge

__all__ = ["ENDPOINTS", "statistics_document"]

_TIMEOUT_S = 2.0


class Counted(TypedDict):
    last_inference: Annotated[int, Meta(ge=0, description="milliseconds since 1970")]
    inference_count: Annotated[int, Meta(ge=0, description="rows")]
    execution_count: Annotated[int, Meta(ge=0, description="batches")]
    inference_stats: Written[InferenceStats]
    batch_stats: Written[list[BatchStats]]


class ModelStatistics(Counted):
    name: str
    version: str
    response_stats: dict[str, Any]
    memory_usage: list[dict[str, Any]]


class AllStatistics(TypedDict):
    model_stats: list[ModelStatistics]


async def all_statistics(call: Call) -> Response:
    """The statistics of all models since they were loaded."""
    found = await asyncio.gather(*map(_statistics, visible_versions(call)))
    return json_response(AllStatistics(model_stats=list(found)))


async def model_statistics(call: Call) -> Response:
    """The statistics of the model since it was loaded."""
    version = version_of(call)
    return json_response(AllStatistics(model_stats=[await _statistics(version)]))


async def _statistics(version: Version) -> ModelStatistics:
    """The sum over the version's replicas, without those that do not report in time."""
    reports = await asyncio.gather(
        *(client.statistics(_TIMEOUT_S) for client in version.clients.values()),
        return_exceptions=True,
    )
    for failure in reports:
        if isinstance(failure, BaseException) and not isinstance(failure, HeadraceError):
            raise failure
    sums = merge([report for report in reports if isinstance(report, Statistics)])
    return statistics_document(version.spec.name, version.spec.version, sums)


def statistics_document(name: str, version: str, statistics: Statistics) -> ModelStatistics:
    """One item of the extension's `model_stats`, with every member that clients read unasked."""
    counted: Counted = msgspec.to_builtins(statistics)
    return {
        "name": name,
        "version": version,
        **counted,
        "response_stats": {},
        "memory_usage": [],
    }


ENDPOINTS = (
    Endpoint(
        method="GET",
        paths=("/v2/models/stats",),
        handler=all_statistics,
        api=METADATA,
        answer=AllStatistics,
    ),
    Endpoint(
        method="GET",
        paths=with_version(V2_MODEL, "/stats"),
        handler=model_statistics,
        api=METADATA,
        answer=AllStatistics,
    ),
)
