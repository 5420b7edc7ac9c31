"""The descendants of this process, by /proc; none without it."""

import os
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

__all__ = ["VitalChildren", "descendants", "kill_below"]

KILL_S = 10.0
_LOOK_S = 0.05
# Consecutive looks that must find a vital process stopped; one that is continued soon is left
# alone.
_STOPPED_LOOKS = 7


class VitalChildren:
    """Children of this process that it cannot do without, by name; searched for until found."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._pids: dict[str, int] = {}
        self._looks = dict.fromkeys(names, 0)

    def lost(self) -> str:
        """One line about a child that is lost; empty as long as all are there.

        A child that ended is lost. One that is stopped (SIGSTOP) may be continued, so it is lost
        only after some looks.
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
    """The ids of children, their children, and so on."""
    found: set[int] = set()
    parents = {child: parent for child, _, parent in _all()}
    level = {pid}
    while level := {child for child, parent in parents.items() if parent in level} - found:
        found |= level
    return found


def kill_below(pid: int) -> None:
    """Kill all descendants and wait until they are gone, at most for KILL_S."""
    below = descendants(pid)
    for child in below:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(child, signal.SIGKILL)
    deadline_s = monotonic() + KILL_S
    while any(_state(child) not in "ZX" for child in below) and monotonic() < deadline_s:
        threading.Event().wait(_LOOK_S)


def _children(pid: int) -> Iterator[tuple[int, str]]:
    return ((child, name) for child, name, parent in _all() if parent == pid)


def _all() -> Iterator[tuple[int, str, int]]:
    """Id, name and parent's id of every process."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            name, fields = _stat(folder)
            yield int(folder.name), name, int(fields[1])


def _state(pid: int) -> str:
    """The letter in /proc (R, S, D, T, Z ...); X for a process that is gone, ? if unreadable."""
    try:
        return _stat(Path(f"/proc/{pid}"))[1][0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
    except OSError:  # no descriptor is free
        return "?"


def _stat(folder: Path) -> tuple[str, list[str]]:
    """The process's name and the fields after it, the first of which is its state."""
    text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
    head, _, rest = text.rpartition(") ")
    return head.partition(" (")[2], rest.split()
