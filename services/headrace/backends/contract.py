"""What a replica asks of a runtime."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from headrace.inference.tensor import Array

__all__ = ["Backend", "Stoppable"]


class Backend(Protocol):
    """A loaded model. Called from as many threads at a time as it has lanes; one may be the event loop's."""

    @property
    def device(self) -> str:
        """Where it runs: "cpu" or "cuda"."""
        ...

    @property
    def lanes(self) -> int:
        """How many batches may be with it at a time: 2 on a GPU, where copies of one go on beside the other's run."""
        ...

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """All inputs `[n, *shape]` of the spec -> all outputs `[n, *shape]`, contiguous, on the host.

        Raises OutOfMemory for a batch that the device has too little memory for, and BadRequest for a wrong input.
        """
        ...


@runtime_checkable
class Stoppable(Backend, Protocol):
    """A backend whose runs can be stopped from outside. Only such a one may run on the event loop."""

    def stop(self, thread: int) -> None:
        """Make what this thread runs raise soon, whatever it raises; from any thread, while that one is in `run`."""
        ...
