"""What a replica asks of a runtime."""

from collections.abc import Mapping
from typing import Protocol

from headrace.tensor import Array

__all__ = ["Backend"]


class Backend(Protocol):
    """A loaded model. Called from one thread at a time: its own, or the event loop's while that costs less."""

    @property
    def device(self) -> str:
        """Where it runs: "cpu" or "cuda"."""
        ...

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """All inputs `[n, *shape]` of the spec -> all outputs `[n, *shape]`, contiguous, on the host."""
        ...
