"""The view of descendant processes, and their end, with real processes."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from time import monotonic

import pytest
from loadtests.support.proc import has_ended, state

from headrace.process.tree import VitalChildren, descendants, kill_below

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="there is no /proc here"
)

SOON_S = 30.0
# A child with a child of its own, in a session of its own, which both say when they are there.
PARENT = """
import subprocess, sys
script = "print('here', flush=True); input()"
child = subprocess.Popen(
    [sys.executable, "-c", script], stdin=subprocess.PIPE, start_new_session=True
)
child.wait()
"""

Process = subprocess.Popen[str]


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Process]:
    """A child of its own name: other tests may have left children of Python's."""
    python = tmp_path / "vital-child"
    python.symlink_to(sys.executable)
    pipe = subprocess.PIPE
    with subprocess.Popen([python, "-c", PARENT], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "here\n"
        try:
            yield process
        finally:
            kill_below(process.pid)
            process.kill()


@pytest.fixture
def vital(parent: Process) -> VitalChildren:
    name = Path(f"/proc/{parent.pid}/comm").read_text(encoding="utf-8").strip()
    return VitalChildren([name])


def until_state(pid: int, wanted: str) -> None:
    deadline_s = monotonic() + SOON_S
    while state(pid) != wanted:
        assert monotonic() < deadline_s
        Event().wait(0.01)


def test_all_below_are_found_and_ended(parent: Process) -> None:
    (child,) = descendants(parent.pid)
    assert {parent.pid, child} <= descendants(os.getpid())
    kill_below(parent.pid)
    assert has_ended(child)
    assert parent.wait(SOON_S) == 0  # it was waiting for its child


def test_where_nobody_is_left_there_is_no_trouble(parent: Process) -> None:
    kill_below(parent.pid)
    parent.wait(SOON_S)
    kill_below(parent.pid)


def test_one_that_lives_is_not_lost(vital: VitalChildren) -> None:
    assert {vital.lost() for _ in range(50)} == {""}


def test_one_that_has_ended_is_lost_at_once(vital: VitalChildren, parent: Process) -> None:
    assert not vital.lost()
    parent.kill()
    until_state(parent.pid, "Z")
    assert vital.lost().endswith(f"(process {parent.pid}) has ended")


def test_one_that_has_ended_and_was_reaped_is_lost(vital: VitalChildren, parent: Process) -> None:
    assert not vital.lost()
    parent.kill()
    parent.wait(SOON_S)
    assert vital.lost().endswith(f"(process {parent.pid}) has ended")


def test_one_that_stays_stopped_is_lost(vital: VitalChildren, parent: Process) -> None:
    assert not vital.lost()
    os.kill(parent.pid, signal.SIGSTOP)
    until_state(parent.pid, "T")
    looks = [vital.lost() for _ in range(7)]
    assert looks[:6] == [""] * 6
    assert looks[6].endswith(f"(process {parent.pid}) is stopped")


def test_one_that_is_continued_again_and_again_is_not_lost(
    vital: VitalChildren, parent: Process
) -> None:
    assert not vital.lost()
    for _ in range(3):
        os.kill(parent.pid, signal.SIGSTOP)
        until_state(parent.pid, "T")
        assert {vital.lost() for _ in range(6)} == {""}
        os.kill(parent.pid, signal.SIGCONT)
        until_state(parent.pid, "S")
        assert not vital.lost()


def test_one_that_there_is_no_seeing_is_not_lost(vital: VitalChildren) -> None:
    assert not vital.lost()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # no descriptor is free
    try:
        assert not vital.lost()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_one_that_has_not_started_yet_is_not_lost() -> None:
    assert not VitalChildren(["nobody"]).lost()
