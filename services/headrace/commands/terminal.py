"""The commands' terminal: output, progress, and how commands fail."""

import io
import os
import tempfile
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from typer.core import TyperGroup

from headrace.errors import HeadraceError
from headrace.telemetry.lines import LineWriter
from headrace_models.errors import ModelError

__all__ = [
    "Commands",
    "divert",
    "err",
    "fail",
    "first_line",
    "log_traceback",
    "out",
    "progress_bar",
    "warn",
]


class _Messages(Console):
    """Prints if it can: without a reader, a command still does its work, with its exit code."""

    def on_broken_pipe(self) -> None:
        self.quiet = True

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - as the console has it
        with suppress(OSError):
            super().print(*objects, **options)


# Unlike messages, output that cannot be written fails the command, until `divert`.
out = Console(soft_wrap=True, highlight=False)
err = _Messages(stderr=True, soft_wrap=True, highlight=False)

_log: Path | None = None


class Commands(TyperGroup):
    """The group of all commands. A command that fails ends with one line and exit code 1."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - Typer does not export its own type
        try:
            return super().invoke(ctx)
        except (HeadraceError, ModelError) as error:
            fail(error)
        except (typer.TyperException, typer.Exit, typer.Abort, BrokenPipeError):
            raise  # Typer's own ends, and a reader who has read enough
        except KeyboardInterrupt:
            err.print("headrace: interrupted")
            raise SystemExit(130) from None
        except Exception as error:
            fail_unexpectedly(error)


def fail(error: Exception | str) -> NoReturn:
    err.print(f"headrace: {error}", markup=False)
    raise SystemExit(1)


def warn(message: str) -> None:
    """Print a message that does not stop the command."""
    err.print(f"headrace: {message}", markup=False)


def fail_unexpectedly(error: Exception) -> NoReturn:
    log = log_traceback(error)
    reason = first_line(error) or "no message"
    fail(f"unexpected {type(error).__name__}: {reason} (the traceback is in {log})")


def first_line(error: BaseException) -> str:
    """The first line of an error's message; libraries write many."""
    return str(error).strip().partition("\n")[0]


def log_traceback(error: BaseException) -> Path:
    """Append the traceback to the log, or to a new file without a log; returns the path."""
    with _open_log() as file:
        traceback.print_exception(error, file=file)
        return Path(file.name)


def _open_log() -> IO[str]:
    if _log is not None:
        with suppress(OSError):
            return _log.open("a", encoding="utf-8")
    return tempfile.NamedTemporaryFile(
        "w", prefix="headrace-", suffix=".log", delete=False, encoding="utf-8"
    )


def divert(log: Path) -> None:
    """Send everything to a file that `out` and `err` do not print: Ray's core writes to descriptors
    1 and 2.

    Processes started later inherit the file instead of the terminal. From now on neither console
    waits for its reader or fails without one, so that a platform goes on and ends in any case.
    """
    global _log
    _log = log
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    while target <= 2:  # a standard descriptor that was closed also gets the file
        target = os.dup(target)
    for console, descriptor in ((out, 1), (err, 2)):
        writer = _Writer(os.dup(descriptor))
        console.file = io.TextIOWrapper(
            writer, encoding="utf-8", errors="backslashreplace", write_through=True
        )
        os.dup2(target, descriptor)
    os.close(target)


class _Writer(io.BufferedIOBase):
    """Writes to a terminal, pipe or file from a thread; `flush` waits for it a moment."""

    name = "terminal"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines = LineWriter(
            partial(os.write, descriptor), lambda n: b"headrace: %d pieces of output lost\n" % n
        )

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - a buffer of any kind
        self._lines.put(bytes(data))
        return len(data)

    def flush(self) -> None:
        self._lines.flush()

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True


def progress_bar() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(
        *columns,
        console=err,
        transient=True,
        disable=not err.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
    )
