"""Connections without a network: what was written to them, and whether they were cut off."""

import asyncio
from collections.abc import Iterable

import numpy as np
from tests.channel.replicas import TOKEN, Doubler, ask

from headrace.channel.encoding import Decoder, encode
from headrace.channel.frame_stream import FrameStream
from headrace.channel.frames import Frame, Welcome
from headrace.channel.greeting import Greeting
from headrace.channel.server import ChannelServer
from headrace.channel.strangers import Strangers
from headrace.inference.tensor import Buffer, from_array

__all__ = ["NAME", "Wire", "as_bytes", "replica"]

NAME = "/run/replica.sock"


def replica() -> ChannelServer:
    return ChannelServer(Doubler(), Strangers(Welcome("tiny", "1"), TOKEN, NAME))


def as_bytes(frame: Frame) -> bytes:
    return b"".join(map(bytes, encode(frame)))


class Wire(asyncio.Transport):
    """The transport of one connection that a replica accepts."""

    def __init__(self, channel: ChannelServer) -> None:
        super().__init__()
        self.written = b""
        self.is_cut = False
        self.stream: FrameStream = channel.accept()
        self.stream.connection_made(self)

    def hear(self, data: bytes) -> None:
        """As a loop does: nothing is told to a protocol whose transport is cut."""
        if not self.is_cut:
            self.stream.data_received(data)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        self.written += b"".join(map(bytes, list_of_data))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.is_cut

    def abort(self) -> None:
        if not self.is_cut:
            self.is_cut = True
            asyncio.get_running_loop().call_soon(self.stream.connection_lost, None)

    close = abort

    async def is_served(self) -> bool:
        """True if a gateway that greets and infers on it is welcomed and answered."""
        tensors = [from_array("x", np.ones((1, 1), np.float32))]
        self.hear(as_bytes(Greeting(TOKEN, NAME).hello))
        self.hear(ask(1, tensors))
        for _ in range(5):
            await asyncio.sleep(0)
        decoder = Decoder()
        decoder.trust()
        return [type(frame).__name__ for frame, _ in decoder.feed(self.written)] == [
            "Welcome",
            "Reply",
        ]
