"""Log and trace settings as Triton's clients read and change them; no shared memory."""

from typing import Literal, TypedDict

from headrace.edge.exchange import Response
from headrace.edge.origin_check import CHANGE_TYPES
from headrace.edge.triton_management import (
    LogChanges,
    TraceChanges,
    changed_logging,
    check_tracing,
    logging_document,
    tracing_document,
)
from headrace.errors import BadRequest, Forbidden
from headrace.gateway.api.answers import Count
from headrace.gateway.api.context import Call
from headrace.gateway.api.endpoint import SMALL_BODY_BYTES, V2_MODEL, Api, Endpoint, Schema
from headrace.gateway.api.metadata import METADATA
from headrace.gateway.api.versions import version_of
from headrace.telemetry import logs

__all__ = ["ENDPOINTS"]


class LogSettings(TypedDict):
    log_file: str
    log_info: bool
    log_warning: bool
    log_error: bool
    log_verbose_level: Count
    log_format: Literal["default", "ISO8601"]


class TraceSettings(TypedDict):
    trace_level: list[str]
    trace_rate: str
    trace_count: str
    log_frequency: str
    trace_file: str


async def get_logging(call: Call) -> Response:
    """The log settings of all processes."""
    return Response(200, logging_document(logs.current()))


async def set_logging(call: Call) -> Response:
    """Change the listed log settings in all processes; the answer has all settings.

    With keys it takes an admin's.
    """
    key = call.exchange.key
    if key is not None and not key.admin:
        raise Forbidden("expected an admin's key")
    changed = changed_logging(logs.current(), call.body)
    return Response(200, logging_document(await call.context.change_logging(changed)))


async def get_tracing(call: Call) -> Response:
    """The trace settings of the server or of a model: tracing is off."""
    if "model" in call.exchange.params:
        version_of(call)
    return Response(200, tracing_document())


async def set_tracing(call: Call) -> Response:
    """Set trace settings, to their only values."""
    if "model" in call.exchange.params:
        version_of(call)
    check_tracing(call.body)
    return Response(200, tracing_document())


async def no_shared_memory(call: Call) -> Response:
    """Refuse Triton's shared memory: this server has none."""
    raise BadRequest("shared memory is not supported; send the data")


_SETTINGS = Api(name="settings", about="What is logged and traced.")
_TRACING = ("/v2/trace/setting", V2_MODEL + "/trace/setting")
# A clear refusal is better than an unknown path.
_SHARED_MEMORY = ("/v2/systemsharedmemory", "/v2/cudasharedmemory")
_REGION: dict[str, Schema] = {"region": {"example": "mine"}}

ENDPOINTS = (
    Endpoint(
        method="GET",
        paths=("/v2/logging",),
        handler=get_logging,
        api=METADATA,
        answer=LogSettings,
    ),
    Endpoint(
        method="POST",
        paths=("/v2/logging",),
        handler=set_logging,
        api=_SETTINGS,
        reads=CHANGE_TYPES,
        body=LogChanges,
        body_required=False,
        max_body_bytes=SMALL_BODY_BYTES,
        examples={"verbose": {"log_verbose_level": 1}, "quiet": {"log_verbose_level": 0}},
        answer=LogSettings,
        changes_server=True,
    ),
    Endpoint(method="GET", paths=_TRACING, handler=get_tracing, api=METADATA, answer=TraceSettings),
    Endpoint(
        method="POST",
        paths=_TRACING,
        handler=set_tracing,
        api=_SETTINGS,
        reads=CHANGE_TYPES,
        body=TraceChanges,
        body_required=False,
        max_body_bytes=SMALL_BODY_BYTES,
        examples={"off": {"trace_level": ["OFF"]}},
        answer=TraceSettings,
        changes_server=True,
    ),
    Endpoint(
        method="GET",
        paths=tuple(
            kind + path
            for kind in _SHARED_MEMORY
            for path in ("/status", "/region/{region}/status")
        ),
        handler=no_shared_memory,
        api=_SETTINGS,
        path_parameters=_REGION,
    ),
    Endpoint(
        method="POST",
        paths=tuple(
            kind + path
            for kind in _SHARED_MEMORY
            for path in ("/region/{region}/register", "/region/{region}/unregister", "/unregister")
        ),
        handler=no_shared_memory,
        api=_SETTINGS,
        reads=CHANGE_TYPES,
        max_body_bytes=SMALL_BODY_BYTES,
        path_parameters=_REGION,
        changes_server=True,
    ),
)
