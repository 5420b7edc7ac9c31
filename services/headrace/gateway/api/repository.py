"""The repository's index on the data port: the versions that are served to the caller."""

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from headrace.edge.bodies import read_body
from headrace.edge.exchange import Response
from headrace.edge.triton_management import IndexBody
from headrace.gateway.api.answers import json_response
from headrace.gateway.api.context import Call
from headrace.gateway.api.endpoint import MANY_TYPES, SMALL_BODY_BYTES, Endpoint
from headrace.gateway.api.metadata import METADATA
from headrace.gateway.api.versions import visible_versions
from headrace.gateway.routing.version import SILENT, Version

__all__ = ["ENDPOINTS"]


class IndexEntry(TypedDict):
    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: Annotated[str, Meta(description="why it is not ready")]


async def index(call: Call) -> Response:
    """The served versions of the caller's models; with `ready` those that can answer now.

    The admin port loads and unloads models; its index lists the others, too.
    """
    only_ready = read_body(IndexBody, call.body or b"{}").ready
    versions = [v for v in visible_versions(call) if v.is_sound or not only_ready]
    return json_response([_entry(version) for version in versions])


def _entry(version: Version) -> IndexEntry:
    return {
        "name": version.spec.name,
        "version": version.spec.version,
        "state": "READY" if version.is_sound else "UNAVAILABLE",
        "reason": "" if version.is_sound else version.trouble or SILENT,
    }


ENDPOINTS = (
    Endpoint(
        method="POST",
        paths=("/v2/repository/index",),
        handler=index,
        api=METADATA,
        reads=MANY_TYPES,
        body=IndexBody,
        body_required=False,
        max_body_bytes=SMALL_BODY_BYTES,
        examples={"all": {}, "ready": {"ready": True}},
        answer=list[IndexEntry],
    ),
)
