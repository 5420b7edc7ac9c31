"""The processes below this one, by /proc; where there is none, there is nothing to see."""

import os
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

__all__ = ["Vital", "descendants", "kill_below"]

KILL_S = 10.0
_LOOK_S = 0.05
# So many looks in a row must find a vital process stopped: one that is continued soon is left alone.
_STOPPED_LOOKS = 7


class Vital:
    """Children of this process without which nothing goes on, by their names; looked for until they are found."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._pids: dict[str, int] = {}
        self._looks = dict.fromkeys(names, 0)

    def lost(self) -> str:
        """Why there is no going on, in one line; empty as long as there is.

        What has ended does not come back. One that is stopped (SIGSTOP) might: only a while of that counts, as looks.
        """
        if len(self._pids) < len(self._names):
            self._pids |= {name: pid for pid, name in _children(os.getpid()) if name in self._names}
        for name, pid in self._pids.items():
            state = _state(pid)
            self._looks[name] = self._looks[name] + 1 if state == "T" else 0
            if state in "ZX":
                return f"{name} (process {pid}) has ended"
            if self._looks[name] >= _STOPPED_LOOKS:
                return f"{name} (process {pid}) is stopped"
        return ""


def descendants(pid: int) -> set[int]:
    """Children, their children, and so on."""
    found: set[int] = set()
    parents = {child: parent for child, _, parent in _all()}
    level = {pid}
    while level := {child for child, parent in parents.items() if parent in level} - found:
        found |= level
    return found


def kill_below(pid: int) -> None:
    """Kill all descendants, and wait until they are gone, or for KILL_S."""
    below = descendants(pid)
    for one in below:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(one, signal.SIGKILL)
    deadline_s = monotonic() + KILL_S
    while any(_state(one) not in "ZX" for one in below) and monotonic() < deadline_s:
        threading.Event().wait(_LOOK_S)


def _children(pid: int) -> Iterator[tuple[int, str]]:
    return ((child, name) for child, name, parent in _all() if parent == pid)


def _all() -> Iterator[tuple[int, str, int]]:
    """Of every process: id, name and its parent's id."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            head, _, rest = (
                (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")
            )
            yield int(folder.name), head.partition(" (")[2], int(rest.split()[1])


def _state(pid: int) -> str:
    """R, S, D, T, Z and others, as /proc has it; X for one that is gone, and ? if there is no seeing it."""
    try:
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(") ")[2][0]
        )
    except (FileNotFoundError, ProcessLookupError):
        return "X"
    except OSError:  # no descriptor is free
        return "?"
