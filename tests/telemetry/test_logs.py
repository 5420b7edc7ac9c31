"""Logs for their readers: one JSON object per line for any message, of the levels that are set."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextvars import copy_context
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from headrace.telemetry.logs import LogSettings, apply, configure, dropped_lines, request_id

log = logging.getLogger("headrace.test")


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Undo what a test configures."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers.clear()  # pytest's own, which configure would close
    yield
    apply(LogSettings())
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def written(own_logging: None, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """The records logged so far."""
    path = tmp_path / "log"

    def read() -> str:
        flush()
        return path.read_text(encoding="utf-8")

    with path.open("w", encoding="utf-8") as file:
        configure("tester", file)
        yield read


def flush() -> None:
    for handler in logging.getLogger().handlers:
        handler.flush()


def lines(written: Callable[[], str]) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in written().splitlines()]


def test_a_line_says_when_where_and_what(written: Callable[[], str]) -> None:
    log.warning("replica %s left", "seven")
    (line,) = lines(written)
    assert (line["level"], line["role"], line["logger"]) == ("warning", "tester", "headrace.test")
    assert line["message"] == "replica seven left"
    assert line["pid"] > 0
    assert datetime.fromisoformat(line["time"]).tzname() == "UTC"
    assert "request_id" not in line
    assert "error" not in line


@pytest.mark.parametrize(
    "hostile",
    [
        'x\n{"level":"error","message":"forged"}',
        '"}\r\n{"forged": "',
        "\x1b[2J\x1b]0;title\x07",
        "\x9b31m\x85next\u2028line\u2029paragraph\u202eesrever",
        "nul\x00 and a lone \udc80 surrogate",
    ],
    ids=["newline", "json", "ansi", "unicode", "invalid"],
)
def test_no_message_forges_a_line_or_controls_the_terminal(
    written: Callable[[], str], hostile: str
) -> None:
    log.info("name %s", hostile)
    token = request_id.set(hostile)
    log.info("again")
    request_id.reset(token)
    text = written()
    assert [line["message"] for line in lines(written)] == [
        f"name {hostile}".replace("\udc80", r"\udc80"),
        "again",
    ]
    assert text.count("\n") == 2
    assert all(32 <= ord(c) < 127 for c in text.replace("\n", ""))


def test_a_line_names_the_request_that_its_task_works_on_and_no_other(
    written: Callable[[], str],
) -> None:
    here = copy_context()
    here.run(request_id.set, "abc-1")
    here.run(log.info, "inside")
    log.info("outside")
    inside, outside = lines(written)
    assert inside["request_id"] == "abc-1"
    assert "request_id" not in outside


def test_an_exception_and_its_cause_stay_on_one_line(written: Callable[[], str]) -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as cause:
            raise ValueError("second\nand more " + "x" * 1000) from cause
    except ValueError:
        log.exception("it failed")
    (line,) = lines(written)
    assert line["error"] == "ValueError: second"
    assert line["traceback"].index("KeyError: 'first'") < line["traceback"].index(
        "ValueError: second"
    )
    assert "test_logs.py" in line["traceback"]
    assert "xxxxx" not in line["traceback"]


def test_a_very_long_message_is_cut(written: Callable[[], str]) -> None:
    log.info("x" * 1_000_000)
    assert len(written()) < 10_000


@pytest.mark.parametrize(
    ("settings", "heard"),
    [
        (LogSettings(), ["info", "warning", "error"]),
        (LogSettings(log_verbose_level=1), ["debug", "info", "warning", "error"]),
        (LogSettings(log_info=False), ["warning", "error"]),
        (LogSettings(log_warning=False), ["info", "error"]),
        (LogSettings(log_info=False, log_warning=False), ["error"]),
        (LogSettings(log_info=False, log_warning=False, log_error=False), []),
    ],
)
def test_levels_that_are_off_are_not_logged(
    written: Callable[[], str], settings: LogSettings, heard: list[str]
) -> None:
    apply(settings)
    for say in (log.debug, log.info, log.warning, log.error):
        say("something")
    assert [line["level"] for line in lines(written)] == heard


def test_logging_does_not_fail_without_stderr(own_logging: None) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        configure("tester", stream)
        log.info("to nobody")
        flush()
        assert dropped_lines() == 1


def test_a_process_whose_stderr_is_blocked_ends(tmp_path: Path) -> None:
    code = "import logging; from headrace.telemetry.logs import configure; configure('t')\n"
    code += "for n in range(5000): logging.getLogger('x').warning('a long line %s', 'x' * 1000)\n"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, cwd=tmp_path)
    with process:
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
