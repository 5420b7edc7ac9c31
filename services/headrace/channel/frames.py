"""Frames: a small msgpack header and the raw bytes of the tensors it lists.

On the wire: header length and body length as two little-endian 32-bit integers, the header, the body. The body is
the tensors' bytes one after the other, in the header's order. Never pickle.
"""

import struct
from collections.abc import Iterator, Sequence

import msgspec

from headrace.errors import BadRequest, Blame, TooLarge
from headrace.inference.handover import SequenceKey
from headrace.inference.request import SequenceStep, Times
from headrace.inference.statistics import Statistics
from headrace.inference.tensor import Buffer, Tensor

__all__ = [
    "MAX_FRAME_BYTES",
    "NOBODY",
    "Ask",
    "Blamed",
    "Cancel",
    "Decoder",
    "Fault",
    "Frame",
    "GoingAway",
    "Hello",
    "Moved",
    "Ping",
    "Pong",
    "Reply",
    "Started",
    "TakeOver",
    "TakenOver",
    "Tell",
    "Told",
    "Welcome",
    "encode",
]

MAX_FRAME_BYTES = 80 << 20
# No Ask has this id.
NOBODY = 0
_MAX_HEADER_BYTES = 1 << 20
# Of a greeting, which has no tensors.
_MAX_GREETING_BYTES = 1 << 10
_PREFIX = struct.Struct("<II")


class _Meta(msgspec.Struct, array_like=True, frozen=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    nbytes: int


class Hello(msgspec.Struct, array_like=True, tag=0, frozen=True):
    """First frame of a gateway: its proof for this nonce that it has the platform's channel token."""

    nonce: bytes
    proof: bytes


class Welcome(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """First frame of a replica: what it serves, and its own proof for the gateway's nonce."""

    model: str
    version: str
    proof: bytes = b""


class Ask(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """One inference; `budget_us` is what is left of the caller's time, since clocks differ between nodes."""

    id: int
    budget_us: int
    priority: int
    request_id: str
    outputs: tuple[str, ...]
    tensors: tuple[_Meta, ...] = ()
    sequence: SequenceStep | None = None
    key_id: str = ""
    is_suspect: bool = False


class Reply(msgspec.Struct, array_like=True, tag=3, frozen=True):
    id: int
    times: Times
    tokens: int
    tensors: tuple[_Meta, ...] = ()
    truncated: tuple[int, ...] = ()


class Fault(msgspec.Struct, array_like=True, tag=4, frozen=True):
    """The error of one Ask, by its code in `headrace.errors`. It may come after a Cancel, for whom it may blame."""

    id: int
    code: str
    message: str
    retry_after_s: float | None
    blame: Blame = "none"


class Cancel(msgspec.Struct, array_like=True, tag=5, frozen=True):
    id: int


class Ping(msgspec.Struct, array_like=True, tag=6, frozen=True):
    pass


class Pong(msgspec.Struct, array_like=True, tag=7, frozen=True):
    """`is_ready`: proven by a recent inference; `waiting_rows`: the length of the replica's line."""

    is_ready: bool
    waiting_rows: int


class GoingAway(msgspec.Struct, array_like=True, tag=8, frozen=True):
    """The replica drains: what it accepted it will answer, but it wants nothing new."""


class Tell(msgspec.Struct, array_like=True, tag=9, frozen=True):
    """Asks what the replica counted since it loaded."""

    id: int


class Told(msgspec.Struct, array_like=True, tag=10, frozen=True):
    id: int
    statistics: Statistics


class Started(msgspec.Struct, array_like=True, tag=14, frozen=True):
    """The suspect with this Ask's id runs now, alone: if the replica ends then, this ended it. NOBODY: no more so."""

    id: int


class Blamed(msgspec.Struct, array_like=True, tag=15, frozen=True):
    """Another gateway's request, whose tensors follow: the model did not end on it, alone. It is to be refused."""

    outputs: tuple[str, ...]
    tensors: tuple[_Meta, ...] = ()


class TakeOver(msgspec.Struct, array_like=True, tag=11, frozen=True):
    """A replica that goes away offers its sequences, each with the names of its tensors, which follow in this order.

    `state_names` are the states that every sequence of its model has; a sequence may have more.
    """

    id: int
    state_names: tuple[str, ...]
    sequences: tuple[tuple[SequenceKey, tuple[str, ...]], ...]
    tensors: tuple[_Meta, ...] = ()


class TakenOver(msgspec.Struct, array_like=True, tag=12, frozen=True):
    """Which of the sequences offered are here from now on; the others are not."""

    id: int
    taken: tuple[SequenceKey, ...]


class Moved(msgspec.Struct, array_like=True, tag=13, frozen=True):
    """These sequences, which this replica had, are with the replica of the fleet that is called `successor`."""

    successor: str
    sequences: tuple[SequenceKey, ...]


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
    | Tell
    | Told
    | TakeOver
    | TakenOver
    | Moved
    | Started
    | Blamed
)

_encode_header = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(Frame).decode


def metas(tensors: Sequence[Tensor]) -> tuple[_Meta, ...]:
    return tuple(_Meta(t.name, t.datatype, t.shape, len(t.data)) for t in tensors)


def encode(frame: Frame, tensors: Sequence[Tensor] = ()) -> list[Buffer]:
    """The buffers of one frame, to be written in order. Raises TooLarge beyond MAX_FRAME_BYTES."""
    header = _encode_header(frame)
    body = sum(len(t.data) for t in tensors)
    if len(header) > _MAX_HEADER_BYTES or body > MAX_FRAME_BYTES:
        raise TooLarge(
            f"the request's tensors: expected at most {MAX_FRAME_BYTES} bytes, found {body}"
        )
    return [_PREFIX.pack(len(header), body) + header, *(t.data for t in tensors)]


class Decoder:
    """Bytes in, frames out. Tensors are views of the received bytes, which live as long as the tensors do.

    Until `trust` is called, frames may be as long as a greeting.
    """

    def __init__(self) -> None:
        self._max_header_bytes = _MAX_GREETING_BYTES
        self._max_body_bytes = 0
        self._rest = bytearray()

    def trust(self) -> None:
        """Take frames of any length of ours from here on, also the next one that `feed` gives."""
        self._max_header_bytes = _MAX_HEADER_BYTES
        self._max_body_bytes = MAX_FRAME_BYTES

    def feed(self, data: bytes) -> Iterator[tuple[Frame, list[Tensor]]]:
        """The frames that `data` completes. Raises BadRequest on anything that is no frame of ours."""
        received: Buffer = data
        if self._rest:
            self._rest += data
            received = self._rest
        view, place = memoryview(received), 0
        try:
            while end := self._frame_end(view, place):
                yield _decode(view[place:end])
                place = end
        finally:
            # A new buffer for the rest: the old one belongs to the tensors that were handed out.
            if place or received is data:
                self._rest = bytearray(view[place:])

    def _frame_end(self, view: memoryview, start: int) -> int:
        """Where the frame that begins at `start` ends; 0 while it is incomplete."""
        if len(view) - start < _PREFIX.size:
            return 0
        header, body = _PREFIX.unpack_from(view, start)
        if header > self._max_header_bytes or body > self._max_body_bytes:
            most = f"{self._max_header_bytes} and {self._max_body_bytes}"
            raise BadRequest(
                f"frame: expected at most {most} bytes of header and body, found {header} and {body}"
            )
        end = start + _PREFIX.size + header + body
        return end if end <= len(view) else 0


def _decode(view: memoryview) -> tuple[Frame, list[Tensor]]:
    header, _ = _PREFIX.unpack_from(view)
    place = _PREFIX.size + header
    try:
        frame = _decode_header(view[_PREFIX.size : place])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"frame: not a header of ours: {error}") from None
    tensors = []
    for name, datatype, shape, nbytes in map(_fields, getattr(frame, "tensors", ())):
        if nbytes < 0:
            raise BadRequest(f"frame: expected a length of 0 or more, found {nbytes}")
        tensors.append(Tensor(name, datatype, shape, view[place : place + nbytes]))
        place += nbytes
    if place != len(view):
        raise BadRequest(f"frame: its tensors end at byte {place} of {len(view)}")
    return frame, tensors


def _fields(meta: _Meta) -> tuple[str, str, tuple[int, ...], int]:
    return meta.name, meta.datatype, meta.shape, meta.nbytes
