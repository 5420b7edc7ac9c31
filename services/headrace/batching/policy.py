"""Which waiting items make the next batch. Pure functions over items; the batcher keeps the line."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

__all__ = ["Limits", "Waiting", "pick"]


class Waiting(Protocol):
    """What a policy sees of an item: its `rows`, and the `group` outside of which it shares no batch."""

    @property
    def rows(self) -> int: ...
    @property
    def group(self) -> Hashable: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a batch and of the line before it. `max_running` batches are with the executor at a time."""

    max_rows: int = 32
    max_waiting_rows: int = 1024
    max_waiting_bytes: int = 256 << 20
    max_running: int = 1

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


W = TypeVar("W", bound=Waiting)


def pick(line: Iterable[W], max_rows: int) -> list[W]:
    """The oldest item and, in order, all later ones of its group that still fit into `max_rows`.

    The oldest always travels, so nothing starves. Items are never larger than `max_rows`.
    """
    batch: list[W] = []
    rows = 0
    for item in line:
        if batch and item.group != batch[0].group:
            continue
        if rows + item.rows <= max_rows:
            batch.append(item)
            rows += item.rows
        if rows == max_rows:
            break
    return batch
