"""The contract between a replica and a runtime."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from headrace.inference.tensor import Array

__all__ = ["Backend", "Stoppable"]


class Backend(Protocol):
    """A loaded model. As many threads as it has lanes may call it; one may be the event loop's."""

    @property
    def device(self) -> str:
        """The device that it runs on: "cpu" or "cuda"."""
        ...

    @property
    def lanes(self) -> int:
        """Number of batches at a time: 2 on a GPU, where one is copied while one runs."""
        ...

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """All inputs `[n, *shape]` of the spec -> all outputs `[n, *shape]`, contiguous, on host.

        Raises OutOfMemory if the device has too little memory for the batch, and BadRequest for a
        wrong input.
        """
        ...


@runtime_checkable
class Stoppable(Backend, Protocol):
    """A backend whose runs can be stopped from outside. No other may run on the event loop."""

    def stop(self, thread: int) -> None:
        """Make the run of this thread raise something soon.

        Called from any thread during the run.
        """
        ...
