"""The replica's end of the channel: listens, runs each Ask as a task, answers or faults, drains."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import NamedTuple, Protocol

from headrace.channel.frame_stream import FrameStream
from headrace.channel.frames import (
    NOBODY,
    Ask,
    Blamed,
    Cancel,
    Fault,
    Frame,
    GoingAway,
    Hello,
    Moved,
    Ping,
    Pong,
    Reply,
    Started,
    TakenOver,
    TakeOver,
    Tell,
    Told,
    Welcome,
    metas,
)
from headrace.channel.greeting import answer_to
from headrace.errors import (
    BadRequest,
    HeadraceError,
    InferenceFailed,
    Overloaded,
    RunStopped,
    TooLarge,
)
from headrace.inference.handover import SequenceKey, SequenceSnapshot, unpack
from headrace.inference.request import Answer, Request
from headrace.inference.statistics import Statistics
from headrace.inference.tensor import Tensor

__all__ = ["ChannelServer", "Health", "Service", "serve"]

log = logging.getLogger(__name__)

_CLOSE_S = 1.0
# A gateway greets at once. So long others may stay, and so many: for one more the first of them is cut off. Many can
# come in one turn of the loop, and a gateway among them is to be heard before it is the first.
GREET_S = 5.0
MAX_STRANGERS = 256
# Greetings that are remembered, so that they open nothing again; only who has the token makes one more.
MAX_GREETED = 1 << 16


@dataclass(frozen=True, slots=True)
class Health:
    is_ready: bool
    waiting_rows: int


class Service(Protocol):
    """What a replica does for a channel."""

    async def infer(self, request: Request) -> Answer:
        """Answer one request. Raises a HeadraceError of the caller's or of ours.

        A suspect is run alone, and its `started` called on the loop right before, after all that ran before it is
        settled.
        """
        ...

    def take_over(
        self, state_names: Collection[str], snapshots: Sequence[SequenceSnapshot]
    ) -> Sequence[SequenceKey]:
        """Take sequences over from another replica, whose model keeps `state_names`; those that are here now."""
        ...

    def health(self) -> Health: ...
    def statistics(self) -> Statistics: ...


class ChannelServer:
    """The open connections of a replica and the requests that run for each.

    What it says to all of them when it goes away, it says to those that come later too.
    """

    def __init__(self, service: Service, welcome: Welcome, token: str, place: str) -> None:
        self.service = service
        self.welcome = welcome
        self.token = token
        self.place = place
        self.peers: set[_Peer] = set()
        self.strangers: dict[_Peer, None] = {}  # the oldest first
        self.greeted: dict[bytes, None] = {}  # nonces, the oldest first
        self.goodbye: list[Frame] = []

    def accept(self) -> FrameStream:
        peer = _Peer(self)
        self.strangers[peer] = None
        if len(self.strangers) > MAX_STRANGERS:
            first = next(iter(self.strangers))
            del self.strangers[first]
            first.stream.abort()
        return peer.stream

    def answer_to(self, hello: Hello) -> Welcome | None:
        """None to a stranger, who may also have heard what a gateway said and say it again."""
        welcome = answer_to(hello, self.welcome, self.token, self.place)
        if welcome is None or hello.nonce in self.greeted:
            return None
        self.greeted[hello.nonce] = None
        if len(self.greeted) > MAX_GREETED:
            del self.greeted[next(iter(self.greeted))]
        return welcome

    def say_going_away(self) -> None:
        """Ask every gateway to send nothing new; what was accepted is still answered."""
        if not self.is_going_away:
            self._say(GoingAway())

    @property
    def is_going_away(self) -> bool:
        return bool(self.goodbye)

    def say_moved(self, successor: str, sequences: Collection[SequenceKey]) -> None:
        """Tell every gateway which replica of the fleet has these sequences from now on."""
        self._say(Moved(successor, tuple(sequences)))

    def _say(self, frame: Frame) -> None:
        self.goodbye.append(frame)
        for peer in list(self.peers):
            peer.send(frame)

    def say_blamed(self, request: Request, asker: "_Peer") -> None:
        """Tell the other gateways of a request that is not to be asked again; its own has its answer."""
        for peer in self.peers - {asker}:
            peer.send(Blamed(tuple(request.outputs), metas(request.inputs)), request.inputs)

    def flush(self) -> None:
        """Write what was sent to the gateways now, since the process may end before the loop's turn does."""
        for peer in list(self.peers):
            peer.stream.flush()

    async def wait_answered(self) -> None:
        """Wait until every request that was accepted is answered."""
        while running := [asked.task for peer in self.peers for asked in peer.running.values()]:
            await asyncio.wait(running)

    async def close(self) -> None:
        """Close every connection once what was sent is read, and cut those off that do not read it in time."""
        for stranger in list(self.strangers):
            stranger.stream.abort()
        for peer in list(self.peers):
            peer.stream.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await asyncio.gather(*(peer.lost.wait() for peer in self.peers))
        for peer in list(self.peers):
            peer.stream.abort()


class _Asked(NamedTuple):
    request: Request
    task: asyncio.Task[None]


class _Peer:
    """One gateway; a stranger, which is told nothing and is cut off soon, until its Hello proves that it is one."""

    def __init__(self, server: ChannelServer) -> None:
        self._server = server
        self.running: dict[int, _Asked] = {}
        self.lost = asyncio.Event()
        self.stream = FrameStream(self._greet, self._on_lost)
        self._patience = asyncio.get_running_loop().call_later(GREET_S, self.stream.abort)

    def _greet(self, frame: Frame, _: list[Tensor]) -> None:
        server = self._server
        welcome = server.answer_to(frame) if isinstance(frame, Hello) else None
        if welcome is None:
            raise BadRequest("frame: expected a greeting from one that has the channel's token")
        self._patience.cancel()
        server.strangers.pop(self, None)
        server.peers.add(self)
        self.stream.trust(self._on_frame)
        self.stream.send(welcome)
        for said in server.goodbye:
            self.send(said)

    def _on_frame(self, frame: Frame, tensors: list[Tensor]) -> None:
        match frame:
            case Ask():
                request = self._request(frame, tensors)
                task = asyncio.create_task(self._answer(frame, request))
                self.running[frame.id] = _Asked(request, task)
                # Not in the task's own `finally`: one that is cancelled before its first step never gets there.
                task.add_done_callback(lambda _: self.running.pop(frame.id, None))
            case Cancel():
                if asked := self.running.get(frame.id):
                    asked.request.stopped = partial(
                        self._fault, frame.id
                    )  # it may be in a run already
                    asked.task.cancel()
            case Ping():
                health = self._server.service.health()
                self.stream.send(Pong(health.is_ready, health.waiting_rows))
            case Tell():
                self.send(Told(frame.id, self._server.service.statistics()))
            case TakeOver():
                snapshots = unpack(frame.sequences, tensors)
                taken = self._server.service.take_over(frame.state_names, snapshots)
                self.send(TakenOver(frame.id, tuple(taken)))
            case _:
                raise BadRequest(f"frame: a gateway sends no {type(frame).__name__} here")

    def _request(self, ask: Ask, tensors: list[Tensor]) -> Request:
        deadline_s = monotonic() + ask.budget_us / 1e6
        request = Request(
            tensors, ask.outputs, deadline_s, ask.request_id, ask.priority, ask.sequence, ask.key_id
        )
        if ask.is_suspect:
            request.is_suspect = True
            request.started, request.ended = (
                partial(self._say_alone, ask.id),
                partial(self._say_alone, NOBODY),
            )
        return request

    async def _answer(self, ask: Ask, request: Request) -> None:
        try:
            answer = await self._server.service.infer(request)
            self._reply(ask, answer)
        except HeadraceError as error:
            self._fault(ask.id, request, error)
        except Exception:
            log.exception("request %s failed", ask.request_id)
            self._fault(ask.id, request, InferenceFailed("the model failed on this request"))

    def _say_alone(self, ask_id: int) -> None:
        """Tell that a suspect runs, before it does, and give every gateway the answers that it is owed till now."""
        self.send(Started(ask_id))
        self._server.flush()

    def _reply(self, ask: Ask, answer: Answer) -> None:
        try:
            self.send(
                Reply(ask.id, answer.times, answer.tokens, metas(answer.outputs), answer.truncated),
                answer.outputs,
            )
        except TooLarge:
            raise InferenceFailed(
                "the model's answer is larger than a frame of the channel may be"
            ) from None

    def _fault(self, ask_id: int, request: Request, error: HeadraceError) -> None:
        blame = error.blame if isinstance(error, RunStopped) else "none"
        self.send(Fault(ask_id, error.code, error.message, error.retry_after_s, blame))
        if blame == "certain":
            self._server.say_blamed(request, self)

    def send(self, frame: Frame, tensors: Sequence[Tensor] = ()) -> None:
        try:
            self.stream.send(frame, tensors)
        except Overloaded:
            self.stream.abort()  # a gateway that does not read is of no use to anybody

    def _on_lost(self) -> None:
        self._patience.cancel()
        self._server.strangers.pop(self, None)
        self._server.peers.discard(self)
        self.lost.set()
        for asked in self.running.values():
            asked.task.cancel()


@asynccontextmanager
async def serve(
    service: Service, welcome: Welcome, token: str, unix: str, host: str
) -> AsyncIterator[tuple[ChannelServer, int]]:
    """Listen on a Unix socket (mode 600), and on `host` at a free TCP port, which is given; 0 without a host.

    `unix` is also what the replica is called in greetings.
    """
    loop = asyncio.get_running_loop()
    channel = ChannelServer(service, welcome, token, unix)
    with suppress(FileNotFoundError):
        os.unlink(unix)  # noqa: PTH108 - a socket's path, not a file of ours
    on_node = await loop.create_unix_server(channel.accept, unix)
    os.chmod(unix, 0o600)  # noqa: PTH101
    on_network = await loop.create_server(channel.accept, host, 0) if host else None
    try:
        yield channel, on_network.sockets[0].getsockname()[1] if on_network else 0
    finally:
        on_node.close()
        if on_network:
            on_network.close()
        await channel.close()
        with suppress(FileNotFoundError):
            os.unlink(unix)  # noqa: PTH108
