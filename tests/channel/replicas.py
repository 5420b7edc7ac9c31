"""Replicas without a model: services to serve over a channel."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import numpy as np

from headrace.channel import Address, Health, ReplicaClient, connect, serve
from headrace.channel.encoding import encode
from headrace.channel.frames import Ask, Welcome, metas
from headrace.channel.server import ChannelServer
from headrace.inference.request import Answer, Request, Times
from headrace.inference.sequences import SequenceKey, SequenceSnapshot
from headrace.inference.statistics import Statistics
from headrace.inference.tensor import Tensor, from_array, to_array

__all__ = [
    "TIMES",
    "TOKEN",
    "Doubler",
    "Running",
    "ask",
    "doubled",
    "ready_client",
    "request",
    "running",
    "until",
]

TIMES = Times(0.25, 0.5, 0.75, 3)
TOKEN = "a token"


def request(number: float, *, seconds: float = 5.0, rows: int = 1) -> Request:
    """`rows` times one FP32 number, to be answered within `seconds`."""
    array = np.full((rows, 1), number, np.float32)
    return Request(
        inputs=[from_array("x", array)],
        outputs=["y"],
        deadline_s=monotonic() + seconds,
        request_id=f"request-{number:g}",
    )


def ask(
    number: int, tensors: Sequence[Tensor], *, seconds: float = 1.0, runs_alone: bool = False
) -> bytes:
    """An Ask with this id, as it is sent."""
    frame = Ask(
        id=number,
        budget_us=int(seconds * 1e6),
        request_id="r",
        outputs=(),
        tensors=metas(tensors),
        runs_alone=runs_alone,
    )
    return b"".join(map(bytes, encode(frame, tensors)))


def doubled(answer: Answer) -> float:
    """The number that a Doubler answered."""
    return float(to_array(answer.outputs[0])[0, 0])


class Doubler:
    """Doubles the number that it is asked; `gate` holds every answer back until it is set."""

    def __init__(self) -> None:
        self.double: Callable[[Tensor], Tensor] = self._doubled
        self.gate = asyncio.Event()
        self.gate.set()
        self.health_now = Health(is_ready=True, waiting_rows=7)
        self.statistics_now = Statistics()
        self.failure: Exception | None = None
        self.requests: list[Request] = []
        self.cancelled: list[str] = []
        self.before: Callable[[Request], Awaitable[None]] | None = None
        self.taken_over: list[SequenceSnapshot] = []
        self.takes_over = True
        self.state_names: Collection[str] = ()

    async def infer(self, request: Request) -> Answer:
        self.requests.append(request)
        try:
            if self.before:
                await self.before(request)
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(request.request_id)
            raise
        if self.failure:
            raise self.failure
        return Answer([self.double(tensor) for tensor in request.inputs], TIMES, tokens=4)

    def _doubled(self, tensor: Tensor) -> Tensor:
        return from_array("y", to_array(tensor) * np.float32(2))

    def take_over(
        self, state_names: Collection[str], snapshots: Sequence[SequenceSnapshot]
    ) -> Sequence[SequenceKey]:
        if not self.takes_over:
            return []
        self.state_names = state_names
        self.taken_over += snapshots
        return [snapshot.key for snapshot in snapshots]

    def health(self) -> Health:
        return self.health_now

    def statistics(self) -> Statistics:
        return self.statistics_now


class Running:
    """A channel server that runs."""

    def __init__(self, channel: ChannelServer, service: Doubler, address: Address) -> None:
        self.channel = channel
        self.service = service
        self.address = address

    async def connect(self, node: str = "here", token: str = TOKEN) -> ReplicaClient:
        """A client: over the Unix socket on node "here", over TCP from any other."""
        return await connect(self.address, node, token)


@asynccontextmanager
async def running(folder: Path, service: Doubler | None = None) -> AsyncIterator[Running]:
    service = service or Doubler()
    unix = str(folder / "replica.sock")
    async with serve(service, Welcome("tiny", "1"), TOKEN, unix, "127.0.0.1") as (channel, port):
        yield Running(channel, service, Address("here", unix, "127.0.0.1", port))


@asynccontextmanager
async def ready_client(running: Running, node: str = "here") -> AsyncIterator[ReplicaClient]:
    """A client that has heard that its replica is ready."""
    client = await running.connect(node)
    try:
        await until(lambda: client.is_ready)
        yield client
    finally:
        client.close()


async def until(question: Callable[[], bool], seconds: float = 2.0) -> None:
    """Let the loop run until the answer is yes, for what comes over a real socket."""
    async with asyncio.timeout(seconds):
        while not question():
            await asyncio.sleep(0)
