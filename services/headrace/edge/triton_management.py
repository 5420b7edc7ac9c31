"""Documents of Triton's management extensions, which both ports have: log and trace settings, the
repository's index.

Tracing is not supported: its settings can be read, and set to their only values.
"""

from dataclasses import asdict, replace
from typing import Any, Literal

import orjson
from pydantic import Field

from headrace.edge.bodies import StrictBody, read_body
from headrace.errors import BadRequest
from headrace.telemetry.logs import LogSettings

__all__ = [
    "IndexBody",
    "LogChanges",
    "TraceChanges",
    "changed_logging",
    "check_tracing",
    "logging_document",
    "tracing_document",
]


class IndexBody(StrictBody):
    """A request for the index: with `ready`, only of versions that can answer now."""

    ready: bool = False


class LogChanges(StrictBody):
    """Changes of log settings; a field that is null or missing changes nothing."""

    log_file: str | None = Field(default=None, json_schema_extra={"enum": ["", None]})
    log_info: bool | None = None
    log_warning: bool | None = None
    log_error: bool | None = None
    log_verbose_level: int | None = Field(default=None, ge=0, le=100)
    log_format: Literal["default", "ISO8601"] | None = None


_TRACING: dict[str, Any] = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
}


def _fixed(name: str) -> Any:  # noqa: ANN401 - as Field itself
    """A setting that may be set to its only value; null is the default."""
    return Field(default=None, json_schema_extra={"enum": [_TRACING[name], None]})


class TraceChanges(StrictBody):
    """Triton's trace settings."""

    trace_level: list[str] | None = _fixed("trace_level")
    trace_rate: str | None = _fixed("trace_rate")
    trace_count: str | None = _fixed("trace_count")
    log_frequency: str | None = _fixed("log_frequency")
    trace_file: str | None = _fixed("trace_file")


def logging_document(settings: LogSettings) -> bytes:
    """All log settings as JSON. `log_file` is always empty: logs go to stderr."""
    return orjson.dumps({"log_file": "", **asdict(settings)})


def changed_logging(current: LogSettings, body: bytes) -> LogSettings:
    """The settings after the changes in `body`. Raises BadJson, or BadRequest naming the field."""
    changes = read_body(LogChanges, body or b"{}").model_dump(exclude_none=True)
    if changes.pop("log_file", ""):
        raise BadRequest("log_file: expected it to stay empty; logs go to stderr")
    return replace(current, **changes)


def tracing_document() -> bytes:
    return orjson.dumps(_TRACING)


def check_tracing(body: bytes) -> None:
    """Check that a request leaves tracing off. Raises BadJson, or BadRequest naming the field."""
    changes = read_body(TraceChanges, body or b"{}").model_dump(exclude_none=True)
    for name, value in changes.items():
        if value != _TRACING[name]:
            expected = orjson.dumps(_TRACING[name]).decode()
            raise BadRequest(f"{name}: expected {expected}: tracing is not supported")
