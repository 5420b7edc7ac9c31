"""Ends its parent once that was stopped (SIGSTOP) or orphaned for some seconds: `guardian_process.py PID ITS_PARENT`.

A stopped process cannot help itself, and its sockets go on accepting. The state T in /proc is exact: a process that
gets no turn on a busy machine is R, one that waits is S, one in a debugger t. One whose own parent, Ray's raylet, has
gone belongs to no platform any more: Ray ends it too, but after a minute if the node's head has gone as well.
Ends when its parent has.
"""

import os
import signal
import sys
import time

PERIOD_S = 0.5
# So many looks in a row must find it so: it is ended after 3 to 3.5 s.
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
