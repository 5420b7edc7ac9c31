"""One inference: what is asked, what comes back, and where its time went."""

from collections.abc import Callable, Sequence

import msgspec

from headrace.errors import HeadraceError
from headrace.inference.tensor import Tensor

__all__ = ["Answer", "Request", "SequenceStep", "Times"]


class SequenceStep(msgspec.Struct, array_like=True, frozen=True):
    """Which sequence a request is a step of, and whether it is its first and its last.

    `id` is written as JSON has it, so that 7 and "7" are two sequences. `key_id` is the id of the key that asks, empty
    where none is needed: a sequence belongs to its key.
    """

    id: str
    starts: bool = False
    ends: bool = False
    key_id: str = ""


class Request(msgspec.Struct):
    """One inference asked for. `outputs` empty means all of them; `deadline_s` is on this process's monotonic clock.

    `key_id` is the id of the key that asks, empty where none is needed: keys share a replica fairly. `is_suspect`: it
    was under way when a replica died or a run was stopped; it runs in a batch of its own; `started` and `ended`, if
    given, frame that. `stopped`, if given, is told of it and of the error if its run is stopped, though nobody waits
    for it any more.
    """

    inputs: Sequence[Tensor]
    outputs: Sequence[str]
    deadline_s: float
    request_id: str = ""
    priority: int = 0
    sequence: SequenceStep | None = None
    key_id: str = ""
    is_suspect: bool = False
    started: Callable[[], None] | None = None
    ended: Callable[[], None] | None = None
    stopped: Callable[["Request", HeadraceError], None] | None = None

    @property
    def nbytes(self) -> int:
        return sum(len(t.data) for t in self.inputs)


class Times(msgspec.Struct, array_like=True, frozen=True):
    """Where a request's time went, in seconds; the rows of the batch that it ran in, and how much of that was padding.

    `padding` is a share of the batch's cells, 0 to 1.
    """

    queue_s: float
    preprocess_s: float
    compute_s: float
    batch_rows: int
    padding: float = 0.0


class Answer(msgspec.Struct):
    """`tokens` is how many tokens a text model read, 0 for others; `is_cached`: no model ran for this.

    `truncated` are the places, in the request's own order, of the texts that were cut.
    """

    outputs: Sequence[Tensor]
    times: Times
    tokens: int = 0
    truncated: tuple[int, ...] = ()
    is_cached: bool = False
