"""Ends its parent once that was stopped (SIGSTOP) for some seconds: `python -I -S guardian_process.py PID`.

A stopped process cannot help itself, and its sockets go on accepting. The state T in /proc is exact: a process that
gets no turn on a busy machine is R, one that waits is S, one in a debugger t. Ends when its parent has.
"""

import os
import signal
import sys
import time

PERIOD_S = 0.5
# So many looks in a row must find it stopped: it is ended after 3 to 3.5 s.
LOOKS = 7


def _is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123 - pathlib would be most of this process's memory
        return stat.read().rpartition(b") ")[2].startswith(b"T")


def _guard(pid: int) -> None:
    looks = 0
    while os.getppid() == pid:
        looks = looks + 1 if _is_stopped(pid) else 0
        if looks == LOOKS:
            os.kill(pid, signal.SIGKILL)
        time.sleep(PERIOD_S)


if __name__ == "__main__":
    _guard(int(sys.argv[1]))
