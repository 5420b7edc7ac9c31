"""The frames of the channel: small msgpack headers, some of which list tensors that follow them."""

from collections.abc import Sequence

import msgspec

from headrace.errors import Blame
from headrace.inference.request import RequestOptions, Times
from headrace.inference.sequences import SequenceKey
from headrace.inference.statistics import Statistics
from headrace.inference.tensor import Tensor

__all__ = [
    "NOBODY",
    "Ask",
    "Blamed",
    "Cancel",
    "Fault",
    "Frame",
    "GetStatistics",
    "GoingAway",
    "Hello",
    "Moved",
    "Ping",
    "Pong",
    "Reply",
    "Started",
    "StatisticsReply",
    "TakeOver",
    "TakenOver",
    "Welcome",
    "metas",
]

# No Ask has this id.
NOBODY = 0


class _Meta(msgspec.Struct, array_like=True, frozen=True):
    """A tensor without its bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    nbytes: int


class Hello(msgspec.Struct, array_like=True, tag=0, frozen=True):
    """First frame of a gateway: a MAC of this nonce, which needs the channel's token."""

    nonce: bytes
    mac: bytes


class Welcome(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """First frame of a replica: the model it serves, and its own MAC of the gateway's nonce."""

    model: str
    version: str
    mac: bytes = b""


class Ask(RequestOptions, array_like=True, tag=2, kw_only=True):
    """One inference. Clocks differ between nodes: `budget_us` is what is left of the time."""

    id: int
    budget_us: int
    outputs: tuple[str, ...]
    tensors: tuple[_Meta, ...] = ()


class Reply(msgspec.Struct, array_like=True, tag=3, frozen=True):
    """The answer to one Ask."""

    id: int
    times: Times
    tokens: int
    tensors: tuple[_Meta, ...] = ()
    truncated: tuple[int, ...] = ()


class Fault(msgspec.Struct, array_like=True, tag=4, frozen=True):
    """The error of one Ask, by its code in `headrace.errors`; with blame also after a Cancel."""

    id: int
    code: str
    message: str
    retry_after_s: float | None
    blame: Blame = "none"


class Cancel(msgspec.Struct, array_like=True, tag=5, frozen=True):
    """Nobody waits for the answer to this Ask any more."""

    id: int


class Ping(msgspec.Struct, array_like=True, tag=6, frozen=True):
    """Asks the replica for its health, in a Pong."""


class Pong(msgspec.Struct, array_like=True, tag=7, frozen=True):
    """The replica's health: `is_ready` if an inference succeeded lately; rows in its queue."""

    is_ready: bool
    waiting_rows: int


class GoingAway(msgspec.Struct, array_like=True, tag=8, frozen=True):
    """The replica drains: it answers what it accepted, and wants nothing new."""


class GetStatistics(msgspec.Struct, array_like=True, tag=9, frozen=True):
    """Asks for the replica's counts since it loaded, in a StatisticsReply."""

    id: int


class StatisticsReply(msgspec.Struct, array_like=True, tag=10, frozen=True):
    """The answer to one GetStatistics."""

    id: int
    statistics: Statistics


class TakeOver(msgspec.Struct, array_like=True, tag=11, frozen=True):
    """A replica that goes away offers sequences, each with the names of its tensors.

    Every sequence of its model has the states `state_names`; a sequence may have more.
    """

    id: int
    state_names: tuple[str, ...]
    sequences: tuple[tuple[SequenceKey, tuple[str, ...]], ...]
    tensors: tuple[_Meta, ...] = ()


class TakenOver(msgspec.Struct, array_like=True, tag=12, frozen=True):
    """The sequences that this replica has taken over; the others of the offer are not here."""

    id: int
    taken: tuple[SequenceKey, ...]


class Moved(msgspec.Struct, array_like=True, tag=13, frozen=True):
    """These sequences, which this replica had, are with the replica `successor` of the fleet."""

    successor: str
    sequences: tuple[SequenceKey, ...]


class Started(msgspec.Struct, array_like=True, tag=14, frozen=True):
    """The suspect of this Ask runs alone now, and a death is its fault; NOBODY: it has ended."""

    id: int


class Blamed(msgspec.Struct, array_like=True, tag=15, frozen=True):
    """Another gateway's request, to refuse from now on: the model did not end on it alone."""

    outputs: tuple[str, ...]
    tensors: tuple[_Meta, ...] = ()


Frame = (
    Hello
    | Welcome
    | Ask
    | Reply
    | Fault
    | Cancel
    | Ping
    | Pong
    | GoingAway
    | GetStatistics
    | StatisticsReply
    | TakeOver
    | TakenOver
    | Moved
    | Started
    | Blamed
)


def metas(tensors: Sequence[Tensor]) -> tuple[_Meta, ...]:
    """The list of tensors in the header of the frame that they follow."""
    return tuple(
        _Meta(name=t.name, datatype=t.datatype, shape=t.shape, nbytes=len(t.data)) for t in tensors
    )
