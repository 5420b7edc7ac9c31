"""Who may read the metrics of a process."""

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Readers"]


@dataclass(frozen=True, slots=True)
class Readers:
    """Who may, beyond loopback: who shows `token`, which is the platform's own, or an admin's key of the file `keys`.

    Everybody, if `is_open`.
    """

    token: str = field(default="", repr=False)
    keys: Path | None = None
    is_open: bool = False
