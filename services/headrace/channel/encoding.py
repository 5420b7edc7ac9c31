"""Frames to bytes and back.

On the wire: the lengths of header and body as two little-endian 32-bit integers, the header, and
the body. The header is msgpack; the body is the bytes of the tensors that the header lists, in its
order. Never pickle.
"""

import struct
from collections.abc import Iterator, Sequence

import msgspec

from headrace.channel.frames import Frame
from headrace.errors import BadRequest, TooLarge
from headrace.inference.tensor import Buffer, Tensor

__all__ = ["MAX_FRAME_BYTES", "Decoder", "encode"]

MAX_FRAME_BYTES = 80 << 20
_MAX_HEADER_BYTES = 1 << 20
# The longest header of a greeting, which has no tensors.
_MAX_GREETING_BYTES = 1 << 10
_PREFIX = struct.Struct("<II")

_encode_header = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(Frame).decode


def encode(frame: Frame, tensors: Sequence[Tensor] = ()) -> list[Buffer]:
    """The buffers of one frame, to be written in order. Raises TooLarge beyond MAX_FRAME_BYTES."""
    header = _encode_header(frame)
    body = sum(len(tensor.data) for tensor in tensors)
    if len(header) > _MAX_HEADER_BYTES or body > MAX_FRAME_BYTES:
        raise TooLarge(
            f"the request's tensors: expected at most {MAX_FRAME_BYTES} bytes, found {body}"
        )
    return [_PREFIX.pack(len(header), body) + header, *(tensor.data for tensor in tensors)]


class Decoder:
    """Bytes in, frames out. Tensors are views of the received bytes, which live as long as they do.

    Until `trust` is called, frames may be as long as a greeting.
    """

    def __init__(self) -> None:
        self._max_header_bytes = _MAX_GREETING_BYTES
        self._max_body_bytes = 0
        self._rest = bytearray()

    def trust(self) -> None:
        """Accept frames of full length from here on, also the next one that `feed` gives."""
        self._max_header_bytes = _MAX_HEADER_BYTES
        self._max_body_bytes = MAX_FRAME_BYTES

    def feed(self, data: bytes) -> Iterator[tuple[Frame, list[Tensor]]]:
        """The frames that `data` completes. Raises BadRequest if the bytes are no valid frame."""
        received: Buffer = data
        if self._rest:
            self._rest += data
            received = self._rest
        view = memoryview(received)
        start = 0
        try:
            while end := self._frame_end(view, start):
                yield _decode(view[start:end])
                start = end
        finally:
            # A new buffer for the rest: the old one belongs to the tensors that were handed out.
            if start or received is data:
                self._rest = bytearray(view[start:])

    def _frame_end(self, view: memoryview, start: int) -> int:
        """The end of the frame that begins at `start`; 0 while the frame is incomplete."""
        if len(view) - start < _PREFIX.size:
            return 0
        header, body = _PREFIX.unpack_from(view, start)
        if header > self._max_header_bytes or body > self._max_body_bytes:
            raise BadRequest(
                f"frame: expected at most {self._max_header_bytes} bytes of header and "
                f"{self._max_body_bytes} of body, found {header} and {body}"
            )
        end = start + _PREFIX.size + header + body
        return end if end <= len(view) else 0


def _decode(view: memoryview) -> tuple[Frame, list[Tensor]]:
    header, _ = _PREFIX.unpack_from(view)
    offset = _PREFIX.size + header
    try:
        frame = _decode_header(view[_PREFIX.size : offset])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(
            f"frame: expected a valid header, found one that is not: {error}"
        ) from None
    tensors = []
    for listed in getattr(frame, "tensors", ()):
        if listed.nbytes < 0:
            raise BadRequest(f"frame: expected a length of 0 or more, found {listed.nbytes}")
        data = view[offset : offset + listed.nbytes]
        tensor = Tensor(name=listed.name, datatype=listed.datatype, shape=listed.shape, data=data)
        tensors.append(tensor)
        offset += listed.nbytes
    if offset != len(view):
        raise BadRequest(f"frame: expected tensors up to byte {len(view)}, found {offset}")
    return frame, tensors
