"""Bounds the bytes of bodies that a process holds at once, those still arriving included."""

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.errors import Overloaded

__all__ = ["Budget"]


class Budget:
    """Counts bytes against a limit."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._used_bytes = 0

    def take(self, nbytes: int) -> None:
        """Raises Overloaded beyond the limit."""
        if self._used_bytes + nbytes > self._limit_bytes:
            raise Overloaded(
                f"bodies of {self._used_bytes} bytes are in flight, about the most allowed", 1
            )
        self._used_bytes += nbytes

    @contextmanager
    def held(self, nbytes: int) -> Iterator[None]:
        """Hold bytes for a while. Raises Overloaded."""
        self.take(nbytes)
        try:
            yield
        finally:
            self.give_back(nbytes)

    def give_back(self, nbytes: int) -> None:
        self._used_bytes -= nbytes
