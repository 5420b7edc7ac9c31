"""Logs: one JSON object per line on stderr, and settings that can change while a process runs.

Logging never waits for stderr: with a full disk, or a pipe that nobody reads, lines are dropped and
counted. Bodies, tensors and headers are never logged; an error's own message is cut, since
libraries quote their input in it.
"""

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import IO, Literal

import orjson

from headrace.telemetry.lines import LineWriter, Write

__all__ = ["LogSettings", "apply", "configure", "current", "dropped_lines", "request_id"]

# The request that this task works on; empty outside of requests.
request_id: ContextVar[str] = ContextVar("request_id", default="")

_ERROR_CHARS = 200
_MESSAGE_CHARS = 8192
# Valid in JSON, but terminals obey some of them, and some readers take others for the end of a
# line.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Log settings by Triton's names; `log_verbose_level` above 0 adds debug lines.

    Both values of `log_format` give the same JSON, with ISO 8601 times.
    """

    log_info: bool = True
    log_warning: bool = True
    log_error: bool = True
    log_verbose_level: int = 0
    log_format: Literal["default", "ISO8601"] = "default"


class _LevelFilter(logging.Filter):
    """Passes the levels in the settings, which any thread may replace."""

    settings = LogSettings()

    def filter(self, record: logging.LogRecord) -> bool:
        settings = self.settings
        if record.levelno >= logging.ERROR:
            return settings.log_error
        if record.levelno >= logging.WARNING:
            return settings.log_warning
        return (
            settings.log_info if record.levelno >= logging.INFO else settings.log_verbose_level > 0
        )


_filter = _LevelFilter()


class _Handler(logging.Handler):
    """Formats records in the thread that logs them, which has their context, for a LineWriter."""

    def __init__(self, role: str, write: Write) -> None:
        super().__init__()
        self.setFormatter(_JsonLines(role))
        self.addFilter(_filter)
        self.lines = LineWriter(write, self._notice)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put(self._line(record))

    def flush(self) -> None:
        self.lines.flush()

    def close(self) -> None:
        self.lines.close()
        super().close()

    def _notice(self, dropped: int) -> bytes:
        text = "dropped %d lines: the log's disk is full, or nobody reads it"
        return self._line(
            logging.LogRecord(__name__, logging.WARNING, "", 0, text, (dropped,), None)
        )

    def _line(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode()


def configure(role: str, stream: IO[str] | None = None) -> None:
    """Log as JSON lines of `role` on `stream` (stderr), by the settings applied last."""
    logging.basicConfig(handlers=[_Handler(role, _writer(stream))], force=True)
    apply(_filter.settings)


def _writer(stream: IO[str] | None) -> Write:
    """Bypasses Python's buffer: a blocked write would hold its lock and abort the process's end."""
    # The process's own stderr, because Serve's replacement adds text before every line.
    file = stream or sys.__stderr__
    return partial(os.write, file.fileno()) if file else len


def dropped_lines() -> int:
    """The number of lines that this process's log lacks."""
    return sum(
        handler.lines.dropped
        for handler in logging.getLogger().handlers
        if isinstance(handler, _Handler)
    )


def apply(settings: LogSettings) -> None:
    """Log by these settings from now on."""
    _filter.settings = settings
    logging.getLogger().setLevel(_level(settings))


def current() -> LogSettings:
    """The settings applied last."""
    return _filter.settings


def _level(settings: LogSettings) -> int:
    """The lowest level that is logged; records below it are not even formatted."""
    if settings.log_verbose_level > 0:
        return logging.DEBUG
    levels = (
        (settings.log_info, logging.INFO),
        (settings.log_warning, logging.WARNING),
        (settings.log_error, logging.ERROR),
    )
    return next((level for is_wanted, level in levels if is_wanted), logging.CRITICAL + 1)


class _JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "role": self._role,
            "pid": os.getpid(),
            "logger": record.name,
            "message": _clean(record.getMessage())[:_MESSAGE_CHARS],
        }
        if request := request_id.get():
            line["request_id"] = _clean(request)
        if record.exc_info and record.exc_info[1]:
            line["error"] = _clean(_named(record.exc_info[1]))
            line["traceback"] = _clean("".join(_frames(record.exc_info[1])))
        return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", orjson.dumps(line).decode())


def _clean(text: str) -> str:
    """The text with escapes for what UTF-8 cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def _named(error: BaseException) -> str:
    """The error's type and the start of its first line."""
    first = str(error).partition("\n")[0][:_ERROR_CHARS]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _frames(error: BaseException) -> Iterator[str]:
    """The traces of an error's causes, at most ten, and then its own."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain and len(chain) < 10:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    for link in reversed(chain):
        yield f"{_named(link)}\n"
        yield from traceback.format_tb(link.__traceback__)
