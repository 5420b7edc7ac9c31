"""Other processes as the kernel shows them in /proc."""

from contextlib import suppress
from pathlib import Path

__all__ = ["below", "has_ended", "state"]

GONE = "X"


def state(pid: int) -> str:
    """R, S, D, T, Z and others, as /proc has it; GONE for one that is not there."""
    try:
        return _stat(Path(f"/proc/{pid}")).rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return GONE


def has_ended(pid: int) -> bool:
    return state(pid) in ("Z", GONE)


def below(pid: int) -> dict[int, str]:
    """All that descend from a process, and their names."""
    found: dict[int, tuple[int, str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            head, _, rest = _stat(folder).rpartition(") ")
            found[int(folder.name)] = int(rest.split()[1]), head.partition(" (")[2]
    level, names = {pid}, dict[int, str]()
    while level := {child for child, (parent, _) in found.items() if parent in level}:
        names |= {child: found[child][1] for child in level}
    return names


def _stat(folder: Path) -> str:
    return (folder / "stat").read_text(encoding="utf-8", errors="replace")
