"""One inference: the request, the answer, and where its time went."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from headrace.errors import HeadraceError
from headrace.inference.tensor import Tensor

__all__ = ["Answer", "Request", "RequestOptions", "SequenceStep", "Times"]


class SequenceStep(msgspec.Struct, array_like=True, frozen=True):
    """The sequence that a request is a step of, and whether it is its first and its last step.

    `id` is written as JSON has it, so that 7 and "7" are two sequences. A sequence belongs to the
    API key `key_id`, which is empty if the gateway needs no keys.
    """

    id: str
    starts: bool = False
    ends: bool = False
    key_id: str = ""


class RequestOptions(msgspec.Struct, kw_only=True):
    """The part of a request that crosses the channel as it is.

    `priority` 1 is the highest, 0 means the default. Keys, by `key_id`, share a replica fairly. A
    request that `runs_alone` has a batch of its own: a suspect, which was running when a replica
    died or a run was stopped, or the golden row.
    """

    request_id: str = ""
    priority: int = 0
    sequence: SequenceStep | None = None
    key_id: str = ""
    runs_alone: bool = False


class Request(RequestOptions):
    """One inference. Empty `outputs` mean all; `deadline_s` is on this process's monotonic clock.

    A replica awaits `started` right before the run of a suspect, and calls `ended` after it. If a
    run is stopped, it calls `stopped` with the request and the error, even if nobody waits any
    more.
    """

    inputs: Sequence[Tensor]
    outputs: Sequence[str]
    deadline_s: float
    started: Callable[[], Awaitable[None]] | None = None
    ended: Callable[[], None] | None = None
    stopped: Callable[["Request", HeadraceError], None] | None = None

    @property
    def nbytes(self) -> int:
        return sum(len(tensor.data) for tensor in self.inputs)


class Times(msgspec.Struct, array_like=True, frozen=True):
    """The parts of a request's time, in seconds, and the batch that it ran in.

    `padding` is the share of the batch's cells that were padding, 0 to 1.
    """

    queue_s: float
    preprocess_s: float
    compute_s: float
    batch_rows: int
    padding: float = 0.0


class Answer(msgspec.Struct):
    """The outputs of one inference.

    `tokens` is the number of tokens that a text model read, 0 for other models. `truncated` are the
    indices of texts that were cut. `is_cached` means that the answer was cached and no model ran.
    """

    outputs: Sequence[Tensor]
    times: Times
    tokens: int = 0
    truncated: tuple[int, ...] = ()
    is_cached: bool = False
