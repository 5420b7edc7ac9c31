"""The lanes of a device: each has what one batch needs on its way, and takes one batch at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Generic, TypeVar

__all__ = ["Lanes", "lanes_of"]

_ON_A_GPU = 2

L = TypeVar("L")


def lanes_of(device: str) -> int:
    """On a GPU two: one batch is put together and copied while the other runs. A CPU's cores are busy with one."""
    return _ON_A_GPU if device == "cuda" else 1


class Lanes(Generic[L]):
    """Lends each lane to one batch at a time. They go round, so that warming up reaches each of them."""

    def __init__(self, lanes: Sequence[L]) -> None:
        self._free: SimpleQueue[L] = SimpleQueue()
        for lane in lanes:
            self._free.put(lane)

    @contextmanager
    def one(self) -> Iterator[L]:
        """A lane until the block ends. Raises queue.Empty if more batches come at a time than there are lanes."""
        lane = self._free.get_nowait()
        try:
            yield lane
        finally:
            self._free.put(lane)
