"""Processes as the kernel shows them in /proc."""

from contextlib import suppress
from pathlib import Path

__all__ = ["below", "has_ended", "open_files", "state", "status_bytes"]

_GONE = "X"


def state(pid: int) -> str:
    """The letter of proc(5): R, S, D, T, Z and others; X for a process that does not exist."""
    try:
        return _stat(Path(f"/proc/{pid}")).rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return _GONE


def has_ended(pid: int) -> bool:
    return state(pid) in ("Z", _GONE)


def below(pid: int) -> dict[int, str]:
    """All descendants of a process, and their names."""
    found: dict[int, tuple[int, str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            head, _, rest = _stat(folder).rpartition(") ")
            found[int(folder.name)] = int(rest.split()[1]), head.partition(" (")[2]
    level = {pid}
    names: dict[int, str] = {}
    while level := {child for child, (parent, _) in found.items() if parent in level}:
        names |= {child: found[child][1] for child in level}
    return names


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def status_bytes(pid: int, name: str) -> int:
    """A size from /proc/PID/status: "VmRSS" is resident now, "VmHWM" the peak."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def _stat(folder: Path) -> str:
    return (folder / "stat").read_text(encoding="utf-8", errors="replace")
