"""Real processes with a guardian each: those that it kills, and those that it leaves alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from time import monotonic

import pytest
from loadtests.support.proc import has_ended

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc here"),
    pytest.mark.slow("waits for seconds on the real clock"),
]

TIMEOUT_S = 30.0
# Longer than a process may be stopped.
WHILE_S = 5.0

# It answers a line by a line, once it has made sure of its guardian, and begins to be busy at the
# end of its input.
GUARDED = """
import sys
from headrace.process.guardian import Guardian

guardian = Guardian()
guardian.keep()
print("guarded", flush=True)
for line in sys.stdin:
    guardian.keep()
    print("guarded", flush=True)
while True:
    pass
"""

Guarded = subprocess.Popen[str]


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", GUARDED], stdin=pipe, stdout=pipe, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "guarded\n"
        try:
            yield process
        finally:
            process.kill()


def guardians(pid: int) -> list[int]:
    """The only child, which is the guardian."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(question: Callable[[], bool]) -> None:
    """Poll, since other processes send no events; bounded, and a poll costs next to nothing."""
    deadline_s = monotonic() + TIMEOUT_S
    while not question():
        assert monotonic() < deadline_s
        Event().wait(0.05)


def test_a_process_that_is_stopped_is_ended(guarded: Guarded) -> None:
    os.kill(guarded.pid, signal.SIGSTOP)
    assert guarded.wait(TIMEOUT_S) == -signal.SIGKILL


def test_a_process_that_is_continued_in_time_lives_on(guarded: Guarded) -> None:
    for _ in range(2):
        os.kill(guarded.pid, signal.SIGSTOP)
        Event().wait(2.0)
        os.kill(guarded.pid, signal.SIGCONT)
        Event().wait(1.0)  # the guardian is to see it
    with pytest.raises(subprocess.TimeoutExpired):
        guarded.wait(WHILE_S)


def test_a_process_that_is_busy_lives_on(guarded: Guarded) -> None:
    assert guarded.stdin
    guarded.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        guarded.wait(WHILE_S)


def test_a_guardian_that_died_has_a_successor(guarded: Guarded) -> None:
    assert guarded.stdin
    assert guarded.stdout
    (first,) = guardians(guarded.pid)
    os.kill(first, signal.SIGKILL)
    until(lambda: has_ended(first))
    guarded.stdin.write("keep\n")
    guarded.stdin.flush()
    assert guarded.stdout.readline() == "guarded\n"
    (second,) = guardians(guarded.pid)
    assert second != first
    os.kill(guarded.pid, signal.SIGSTOP)
    assert guarded.wait(TIMEOUT_S) == -signal.SIGKILL


def test_a_guardian_ends_with_its_process(guarded: Guarded) -> None:
    (guardian,) = guardians(guarded.pid)
    guarded.kill()
    guarded.wait(TIMEOUT_S)
    until(lambda: has_ended(guardian))


ORPHANING = """
import subprocess, sys
pipe = subprocess.PIPE
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=pipe, stdout=pipe, text=True)
print(child.stdout.readline().strip(), child.pid, flush=True)
input()
"""


def test_a_process_whose_parent_has_ended_is_ended() -> None:
    pipe = subprocess.PIPE
    # It does not mind that its input ends.
    busy = GUARDED.replace("for line in sys.stdin", "for line in []")
    with subprocess.Popen(
        [sys.executable, "-c", ORPHANING, busy], stdin=pipe, stdout=pipe, text=True
    ) as parent:
        assert parent.stdout
        said, pid = parent.stdout.readline().split()
        assert said == "guarded"
        parent.kill()
    until(lambda: has_ended(int(pid)))
