"""A connection as both ends see it: frames in by callback, and frames out in one write per tick."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from headrace.channel.encoding import Decoder, encode
from headrace.channel.frames import Frame
from headrace.errors import BadRequest, Overloaded
from headrace.inference.tensor import Buffer, Tensor

__all__ = ["Address", "FrameStream"]

# The most that may wait for a peer that does not read; beyond it new frames are refused.
_MAX_UNREAD_BYTES = 256 << 20
# The buffers that leave before the end of a long tick, so that the peer can work already.
_FLUSH_AT = 16


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a replica: `unix` for gateways on its own node, `host:port` for all others."""

    node: str
    unix: str
    host: str
    port: int


class FrameStream(asyncio.Protocol):
    """An asyncio protocol that speaks frames. A peer that sends anything else is cut off.

    `on_frame` is called with each frame, and raises BadRequest if the peer should not have sent it.
    Until `trust` is called, the peer is a stranger, whose frames may be as long as a greeting.
    """

    def __init__(
        self, on_frame: Callable[[Frame, list[Tensor]], None], on_lost: Callable[[], None]
    ) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._decoder = Decoder()
        self._out: list[Buffer] = []
        self._transport: asyncio.Transport | None = None
        self._is_aborted = False

    def trust(self, on_frame: Callable[[Frame, list[Tensor]], None]) -> None:
        """The peer has proven who it is; call `on_frame` with its frames from here on."""
        self._on_frame = on_frame
        self._decoder.trust()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        if self._is_aborted:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            for frame, tensors in self._decoder.feed(data):
                self._on_frame(frame, tensors)
        except BadRequest:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        self._on_lost()

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, frame: Frame, tensors: Sequence[Tensor] = ()) -> None:
        """Queue a frame; a tick's share a write. Raises Overloaded if the peer does not read."""
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size() > _MAX_UNREAD_BYTES:
            raise Overloaded("the replica does not read its channel", retry_after_s=1)
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out += encode(frame, tensors)
        if len(self._out) >= _FLUSH_AT:
            self._flush()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None:
            self._transport.writelines(out)

    def flush(self) -> None:
        """Write what was sent into the socket now, as far as the socket takes it.

        uvloop keeps what is within the write buffer's limits until the end of the tick, so lower
        them.
        """
        if self._transport is None:
            return
        self._transport.set_write_buffer_limits(high=self._transport.get_write_buffer_size())
        self._flush()
        self._transport.set_write_buffer_limits()

    def close(self) -> None:
        """Close when all that was sent is written."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection now, or as soon as it is made."""
        self._is_aborted = True
        if self._transport is not None:
            self._transport.abort()
