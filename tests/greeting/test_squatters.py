"""A gateway that meets a stranger at a replica's address tells nothing and gives up in time."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from tests.channel.replicas import TOKEN, running
from tests.greeting.wires import as_bytes

from headrace.channel import Address, connect
from headrace.channel.client import CONNECT_TIMEOUT_S
from headrace.channel.encoding import Decoder
from headrace.channel.frames import Frame, GoingAway, Hello, Pong, Welcome
from headrace.channel.greeting import answer_to
from headrace.errors import NotReady

Answer = Callable[[Hello], bytes]


class Squatter:
    """Listens where a replica listened, notes what it is told, and answers as it likes."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.heard = b""
        self.left = asyncio.Event()

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard += await reader.read(1000)
        (hello, _), *_ = Decoder().feed(self.heard)
        assert isinstance(hello, Hello)
        writer.write(self._answer(hello))
        while more := await reader.read(1000):
            self.heard += more
        writer.close()
        self.left.set()


@asynccontextmanager
async def squatting(path: Path, answer: Answer) -> AsyncIterator[Squatter]:
    squatter = Squatter(answer)
    async with await asyncio.start_unix_server(squatter.meet, path):
        yield squatter
        await squatter.left.wait()


def welcome_with(mac: bytes) -> bytes:
    return as_bytes(Welcome("tiny", "1", mac))


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: welcome_with(b""),
        lambda hello: welcome_with(hello.mac),
        as_bytes,
        lambda hello: bytes_of(answer_to(hello, Welcome("tiny", "1"), "guessed", "")),
        lambda _: as_bytes(Pong(is_ready=True, waiting_rows=0)),
        lambda _: as_bytes(GoingAway()) + welcome_with(b""),
        lambda _: struct.pack("<II", 1 << 20, 0),
        lambda _: struct.pack("<II", 2, 80 << 20),
        lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
    ids=[
        "no MAC",
        "our own",
        "an echo",
        "a guess",
        "pong",
        "going away",
        "long header",
        "large body",
        "HTTP",
    ],
)
async def test_a_gateway_leaves_who_does_not_prove_to_be_the_replica_at_once(
    tmp_path: Path, answer: Answer
) -> None:
    path = tmp_path / "replica.sock"
    async with squatting(path, answer) as squatter:
        with taking(0.0), pytest.raises(NotReady):
            await connect(Address("here", str(path), "", 0), "here", TOKEN)
    assert TOKEN.encode() not in squatter.heard


def bytes_of(frame: Frame | None) -> bytes:
    return as_bytes(frame or Welcome("tiny", "1"))


@contextmanager
def taking(seconds: float) -> Iterator[None]:
    began_s = asyncio.get_running_loop().time()
    yield
    assert asyncio.get_running_loop().time() - began_s == seconds


@pytest.mark.parametrize("part", [0, 7, 12])
async def test_a_gateway_waits_five_seconds_for_a_welcome(tmp_path: Path, part: int) -> None:
    path = tmp_path / "replica.sock"
    async with squatting(path, lambda _: welcome_with(b"x" * 32)[:part]):
        with taking(CONNECT_TIMEOUT_S), pytest.raises(NotReady):
            await connect(Address("here", str(path), "", 0), "here", TOKEN)


async def test_what_a_squatter_is_told_does_not_open_the_replica_that_came_instead(
    tmp_path: Path,
) -> None:
    path = tmp_path / "gone.sock"
    async with squatting(path, lambda _: b"") as squatter:
        with pytest.raises(NotReady):
            await connect(Address("here", str(path), "", 0), "here", TOKEN)
    async with running(tmp_path) as replica:
        reader, writer = await asyncio.open_unix_connection(replica.address.unix)
        writer.write(squatter.heard)
        assert await reader.read() == b""
        writer.close()
