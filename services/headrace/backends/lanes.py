"""The lanes of a device: each holds the resources of one batch, and takes one batch at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Generic, TypeVar

__all__ = ["Lanes", "lanes_of"]

_ON_A_GPU = 2

L = TypeVar("L")


def lanes_of(device: str) -> int:
    """Two on a GPU: one batch is copied while the other runs.

    One batch keeps a CPU's cores busy.
    """
    return _ON_A_GPU if device == "cuda" else 1


class Lanes(Generic[L]):
    """Lends each lane to one batch at a time, in turn, so that warming up reaches all of them."""

    def __init__(self, lanes: Sequence[L]) -> None:
        self._free: SimpleQueue[L] = SimpleQueue()
        for lane in lanes:
            self._free.put(lane)

    @contextmanager
    def one(self) -> Iterator[L]:
        """A lane until the block ends. Raises queue.Empty if there are more batches than lanes."""
        lane = self._free.get_nowait()
        try:
            yield lane
        finally:
            self._free.put(lane)
