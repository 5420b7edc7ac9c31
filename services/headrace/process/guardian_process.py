"""Kills its parent if that is stopped or orphaned: `guardian_process.py PID ITS_PARENT`.

A stopped process cannot help itself, and its sockets go on accepting. The state T in /proc is
exact: a process without CPU time on a busy machine is R, one that waits is S, one in a debugger t.
A process whose own parent, Ray's raylet, is gone belongs to no platform any more; Ray ends it too,
but only after a minute if the node's head is gone as well. The guardian ends when its parent has
ended.
"""

import os
import signal
import sys
import time

PERIOD_S = 0.5
# Consecutive looks that must find it stopped or orphaned: it is killed after 3 to 3.5 s.
LOOKS = 7


def _state_and_parent(pid: int) -> tuple[bytes, int]:
    with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123 - pathlib would be most of this process's memory
        state, parent = stat.read().rpartition(b") ")[2].split()[:2]
        return state, int(parent)


def _guard(pid: int, its_parent: int) -> None:
    looks = 0
    while os.getppid() == pid:
        state, parent = _state_and_parent(pid)
        looks = looks + 1 if state == b"T" or parent != its_parent else 0
        if looks == LOOKS:
            os.kill(pid, signal.SIGKILL)
        time.sleep(PERIOD_S)


if __name__ == "__main__":
    _guard(int(sys.argv[1]), int(sys.argv[2]))
