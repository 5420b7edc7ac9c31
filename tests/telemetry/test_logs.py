"""Logs as their readers need them: one JSON object a line, whatever is said, and as much as was asked for."""

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextvars import copy_context
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from headrace.telemetry.lines import MAX_WAITING
from headrace.telemetry.logs import LogSettings, apply, configure, dropped_lines, request_id

log = logging.getLogger("headrace.test")


class Sink:
    """Takes all that is written; `room` is for how many bytes."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.held = bytearray()

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = data[: self.room]
        self.room -= len(taken)
        self.held += taken
        return len(taken)

    @property
    def text(self) -> str:
        flush()
        return self.held.decode()


def flush() -> None:
    for handler in logging.getLogger().handlers:
        handler.flush()


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Whatever a test configures is undone."""
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
def written(own_logging: None) -> Sink:
    sink = Sink()
    configure("tester", sink.write)
    return sink


def lines(written: Sink) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in written.text.splitlines()]


def test_a_line_says_when_where_and_what(written: Sink) -> None:
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
def test_nothing_that_is_said_forges_a_line_or_reaches_the_terminal(written: Sink, hostile: str) -> None:
    log.info("name %s", hostile)
    token = request_id.set(hostile)
    log.info("again")
    request_id.reset(token)
    text = written.text
    assert [line["message"] for line in lines(written)] == [f"name {hostile}".replace("\udc80", r"\udc80"), "again"]
    assert text.count("\n") == 2
    assert all(32 <= ord(c) < 127 for c in text.replace("\n", ""))


def test_a_line_names_the_request_that_its_task_works_on_and_no_other(written: Sink) -> None:
    here = copy_context()
    here.run(request_id.set, "abc-1")
    here.run(log.info, "inside")
    log.info("outside")
    inside, outside = lines(written)
    assert inside["request_id"] == "abc-1"
    assert "request_id" not in outside


def test_an_exception_and_its_cause_stay_on_one_line(written: Sink) -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as cause:
            raise ValueError("second\nand more " + "x" * 1000) from cause
    except ValueError:
        log.exception("it failed")
    (line,) = lines(written)
    assert line["error"] == "ValueError: second"
    assert line["traceback"].index("KeyError: 'first'") < line["traceback"].index("ValueError: second")
    assert "test_logs.py" in line["traceback"]
    assert "xxxxx" not in line["traceback"]


def test_a_very_long_message_is_cut(written: Sink) -> None:
    log.info("x" * 1_000_000)
    assert len(written.text) < 10_000


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
def test_what_is_switched_off_is_not_heard(written: Sink, settings: LogSettings, heard: list[str]) -> None:
    apply(settings)
    for say in (log.debug, log.info, log.warning, log.error):
        say("something")
    assert [line["level"] for line in lines(written)] == heard


def say(number: int) -> None:
    log.info("line %d of many", number)


def test_a_full_disk_costs_lines_that_are_counted_and_told_when_there_is_room_again(own_logging: None) -> None:
    disk = Sink(room=300)
    configure("tester", disk.write)
    for number in range(50):
        say(number)
    whole = disk.text.count("\n")
    assert dropped_lines() == 50 - whole
    disk.room = 1 << 20
    say(50)
    *before, notice, last = disk.text.splitlines()
    assert [orjson.loads(line)["message"] for line in before[:whole]] == [f"line {n} of many" for n in range(whole)]
    assert orjson.loads(notice)["message"].startswith(f"dropped lines: {50 - whole},")
    assert orjson.loads(last)["message"] == "line 50 of many"
    assert len(before) == whole + 1, "the line that was cut is ended, and no other is harmed"


def test_a_disk_that_fills_and_empties_again_and_again_spoils_no_line_but_those_that_it_cuts(own_logging: None) -> None:
    disk = Sink(room=0)
    configure("tester", disk.write)
    for number in range(200):
        disk.room = number * 37 % 400
        say(number)
        flush()
    whole = [line for line in disk.text.splitlines() if line.startswith("{") and line.endswith("}")]
    messages = [orjson.loads(line)["message"] for line in whole]
    said = [text for text in messages if text.startswith("line")]
    told = [int(text.split()[2].rstrip(",")) for text in messages if text.startswith("dropped")]
    assert len(set(said)) == len(said)
    assert 200 - len(said) <= dropped_lines()
    assert 0 < sum(told) <= dropped_lines()


def test_a_pipe_that_nobody_reads_blocks_nobody(own_logging: None) -> None:
    reader, writer = os.pipe()
    configure("tester", partial(os.write, writer))
    put = 20 * MAX_WAITING
    for number in range(put):
        say(number)
    dropped = dropped_lines()
    assert dropped > 0
    with os.fdopen(reader, "rb") as pipe:
        read = [orjson.loads(pipe.readline())["message"] for _ in range(put - dropped + 1)]
    os.close(writer)
    (notice,) = [text for text in read if text.startswith("dropped")]
    assert int(notice.split()[2].rstrip(",")) == dropped
    assert len(set(read)) == put - dropped + 1


def test_nobody_who_logs_hears_of_an_stderr_that_is_gone(own_logging: None) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    configure("tester", partial(os.write, writer))
    say(1)
    flush()
    os.close(writer)
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
