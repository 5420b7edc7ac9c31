"""Logs: one JSON object a line on stderr, whatever the message holds, and settings that change while a process runs.

Who logs does not wait for stderr: a disk that is full, or a pipe that nobody reads, costs lines, which are counted.
Bodies, tensors and headers are never logged; an error's own message is cut, since libraries quote their input in it.
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

# The request that this task works on; empty outside of one.
request_id: ContextVar[str] = ContextVar("request_id", default="")

_ERROR_CHARS = 200
_MESSAGE_CHARS = 8192
# JSON lets these stand, but terminals obey some of them and some readers take others for the end of a line.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged, as Triton names it; `log_verbose_level` above 0 adds debugging.

    Lines are the same JSON, with ISO 8601 times, in either `log_format`.
    """

    log_info: bool = True
    log_warning: bool = True
    log_error: bool = True
    log_verbose_level: int = 0
    log_format: Literal["default", "ISO8601"] = "default"


class _Wanted(logging.Filter):
    """Passes the levels that the settings name; `settings` may be replaced from any thread."""

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


_wanted = _Wanted()


class _Handler(logging.Handler):
    """Formats records where they are logged, for their context is there, and leaves their lines to a LineWriter."""

    def __init__(self, role: str, write: Write) -> None:
        super().__init__()
        self.setFormatter(_JsonLines(role))
        self.addFilter(_wanted)
        self.lines = LineWriter(write, self._notice)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put(self._line(record))

    def flush(self) -> None:
        self.lines.flush()

    def close(self) -> None:
        self.lines.close()
        super().close()

    def _notice(self, dropped: int) -> bytes:
        text = "dropped lines: %d, which found no room where the log is written"
        return self._line(
            logging.LogRecord(__name__, logging.WARNING, "", 0, text, (dropped,), None)
        )

    def _line(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode()


def configure(role: str, stream: IO[str] | None = None) -> None:
    """Make all of this process's logs JSON lines of `role` on `stream` (stderr), by the settings applied last."""
    logging.basicConfig(handlers=[_Handler(role, _writing_to(stream))], force=True)
    apply(_wanted.settings)


def _writing_to(stream: IO[str] | None) -> Write:
    """Straight to the file: a blocked write would hold the lock of Python's buffer, and so abort the process's end."""
    # The process's own stderr: what Serve puts in its place writes a text of its own before every line.
    file = stream or sys.__stderr__
    return partial(os.write, file.fileno()) if file else len


def dropped_lines() -> int:
    """How many lines this process's logs lack."""
    return sum(
        handler.lines.dropped
        for handler in logging.getLogger().handlers
        if isinstance(handler, _Handler)
    )


def apply(settings: LogSettings) -> None:
    """Log by these settings from now on."""
    _wanted.settings = settings
    logging.getLogger().setLevel(_level(settings))


def current() -> LogSettings:
    """The settings applied last."""
    return _wanted.settings


def _level(settings: LogSettings) -> int:
    """The lowest level that is wanted: what is below it is not even formatted."""
    if settings.log_verbose_level > 0:
        return logging.DEBUG
    wanted = (
        (settings.log_info, logging.INFO),
        (settings.log_warning, logging.WARNING),
        (settings.log_error, logging.ERROR),
    )
    return next((level for is_wanted, level in wanted if is_wanted), logging.CRITICAL + 1)


class _JsonLines(logging.Formatter):
    """A record -> one line of JSON."""

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
    """The text with what UTF-8 cannot hold spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _named(error: BaseException) -> str:
    """The error's type and the start of its first line."""
    first = str(error).partition("\n")[0][:_ERROR_CHARS]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _frames(error: BaseException) -> Iterator[str]:
    """Where it was raised, and before it where its causes were; at most ten of them."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain and len(chain) < 10:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    for one in reversed(chain):
        yield f"{_named(one)}\n"
        yield from traceback.format_tb(one.__traceback__)
