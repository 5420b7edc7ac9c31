"""The callers who may read the metrics of a process."""

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Readers"]


@dataclass(frozen=True, slots=True)
class Readers:
    """Beyond loopback: callers with the platform's own `token`, or an admin's key from `keys`.

    Everybody, if `is_open`.
    """

    token: str = field(default="", repr=False)
    keys: Path | None = None
    is_open: bool = False
