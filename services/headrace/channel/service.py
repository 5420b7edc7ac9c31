"""The replica behind a channel, as the channel sees it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.inference.request import Answer, Request
from headrace.inference.sequences import SequenceKey, SequenceSnapshot
from headrace.inference.statistics import Statistics

__all__ = ["Health", "Service"]


@dataclass(frozen=True, slots=True)
class Health:
    is_ready: bool
    waiting_rows: int


class Service(Protocol):
    """Answers the requests that come by a channel."""

    async def infer(self, request: Request) -> Answer:
        """Answer one request. Raises a HeadraceError of the caller's or of ours.

        A suspect runs alone; its `started` is awaited right before, when all earlier runs are done.
        """
        ...

    def take_over(
        self, state_names: Collection[str], snapshots: Sequence[SequenceSnapshot]
    ) -> Sequence[SequenceKey]:
        """Take sequences over from a replica whose model has these states; return those taken."""
        ...

    def health(self) -> Health: ...
    def statistics(self) -> Statistics: ...
