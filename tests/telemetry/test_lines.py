"""Lines for a file that is full, blocked or gone: no caller waits or fails, and lost lines are
counted.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from threading import Thread

import pytest

from headrace.telemetry.lines import MAX_WAITING, LineWriter, Write


class Disk:
    """Accepts bytes while it has `room`."""

    def __init__(self, room: int) -> None:
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
    def lines(self) -> list[str]:
        return self.held.decode().splitlines()


@contextmanager
def writer(write: Write) -> Iterator[LineWriter]:
    """A writer with the notice "<n> missing", closed at the end."""
    lines = LineWriter(write, lambda dropped: b"%d missing\n" % dropped)
    yield lines
    lines.close()


def line(number: int) -> bytes:
    return b"line %05d, whole\n" % number


def whole(numbers: range) -> list[str]:
    return [line(n).decode().strip() for n in numbers]


def test_lines_are_written_in_order() -> None:
    disk = Disk(1 << 20)
    with writer(disk.write) as lines:
        for n in range(500):
            lines.put(line(n))
        lines.flush()
    assert (disk.lines, lines.dropped) == (whole(range(500)), 0)


def test_a_full_disk_costs_lines_which_are_reported_when_there_is_room_again() -> None:
    disk = Disk(room=100)
    with writer(disk.write) as lines:
        for n in range(50):
            lines.put(line(n))
        lines.flush()
        assert lines.dropped == 45
        disk.room = 1 << 20
        lines.put(line(50))
        lines.flush()
    cut = disk.lines[5]
    assert disk.lines == [*whole(range(5)), cut, "45 missing", *whole(range(50, 51))]
    assert line(5).decode().startswith(cut), (
        "the line that was cut is ended, and no other is harmed"
    )


def test_a_disk_that_fills_and_empties_again_and_again_spoils_only_what_it_cuts() -> None:
    disk = Disk(room=0)
    with writer(disk.write) as lines:
        for n in range(300):
            disk.room = n * 37 % 60
            lines.put(line(n))
            lines.flush()
    said = [text for text in disk.lines if text.endswith("whole")]
    told = [int(text.split()[0]) for text in disk.lines if text.endswith("missing")]
    assert set(said) <= set(whole(range(300)))
    assert len(set(said)) == len(said)
    assert 300 - len(said) <= lines.dropped
    assert 0 < sum(told) <= lines.dropped


def test_a_pipe_that_nobody_reads_blocks_nobody() -> None:
    reader, end = os.pipe()
    put = 20 * MAX_WAITING
    with writer(partial(os.write, end)) as lines:
        for n in range(put):
            lines.put(line(n))
        dropped = lines.dropped
        assert 0 < dropped < put
        with os.fdopen(reader, "rb") as pipe:
            read = list(islice(filter(_is_whole, pipe), put - dropped))
        lines.flush()
    os.close(end)
    assert read == sorted(read), "those that were written are in order"
    assert lines.dropped == dropped


def test_a_line_that_comes_while_another_is_put_blocks_nobody() -> None:
    """Garbage collection runs anywhere, and a finalizer may log, like that of a task with an unread
    error.
    """
    disk, between = Disk(1 << 20), [0]

    def interrupt(*_: object) -> None:
        between[0] += 1
        lines.put(b"between\n")

    def put() -> None:
        sys.setprofile(interrupt)
        for _ in range(100):
            lines.put(b"put\n")
        sys.setprofile(None)

    with writer(disk.write) as lines:
        putting = Thread(target=put, daemon=True)
        putting.start()
        putting.join(20)
        assert not putting.is_alive()
        lines.flush()
    assert between[0] > 100
    assert sorted(disk.lines) == ["between"] * between[0] + ["put"] * 100


def _is_whole(text: bytes) -> bool:
    return text.endswith(b"whole\n")


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "broken"), BrokenPipeError(), BlockingIOError()]
)
def test_a_file_that_fails_is_tried_again_with_the_next_line(error: OSError) -> None:
    disk = Disk(1 << 20)
    outcomes: list[Callable[[bytes], int]] = [partial(_raise, error), disk.write, disk.write]
    with writer(lambda data: outcomes.pop(0)(data)) as lines:
        lines.put(line(0))
        lines.put(line(1))
        lines.flush()
    assert (disk.lines, lines.dropped) == (["1 missing", *whole(range(1, 2))], 1)


def _raise(error: OSError, _: bytes) -> int:
    raise error
