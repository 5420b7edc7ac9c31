"""The replica's end of the channel: runs each Ask as a task, answers or faults, and drains."""

import asyncio
import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import NamedTuple

from headrace.channel.frame_stream import FrameStream
from headrace.channel.frames import (
    NOBODY,
    Ask,
    Blamed,
    Cancel,
    Fault,
    Frame,
    GetStatistics,
    GoingAway,
    Hello,
    Moved,
    Ping,
    Pong,
    Reply,
    Started,
    StatisticsReply,
    TakenOver,
    TakeOver,
    metas,
)
from headrace.channel.service import Service
from headrace.channel.strangers import Strangers
from headrace.errors import (
    BadRequest,
    HeadraceError,
    InferenceFailed,
    Overloaded,
    RunStopped,
    TooLarge,
)
from headrace.inference.request import Answer, Request
from headrace.inference.sequences import SequenceKey, unpack
from headrace.inference.tensor import Tensor

__all__ = ["ChannelServer"]

log = logging.getLogger(__name__)

_CLOSE_S = 1.0
# The ticks of the loop from the end of a run until its requests are answered: their futures, those
# that gather several of one request, and their tasks are each resumed in the next tick.
_TICKS_TO_ANSWER = 4


class ChannelServer:
    """The gateways of a replica, and the requests that run for each.

    The frames that it sends to all of them when it goes away are sent to later ones, too.
    """

    def __init__(self, service: Service, strangers: Strangers) -> None:
        self.service = service
        self.strangers = strangers
        self.peers: set[_Peer] = set()
        self.goodbye: list[Frame] = []

    def accept(self) -> FrameStream:
        return _Peer(self).frame_stream

    @property
    def is_going_away(self) -> bool:
        return bool(self.goodbye)

    def say_going_away(self) -> None:
        """Ask every gateway to send nothing new; what was accepted is still answered."""
        if not self.is_going_away:
            self._say_goodbye(GoingAway())

    def say_moved(self, successor: str, sequences: Collection[SequenceKey]) -> None:
        """Tell every gateway which replica of the fleet has these sequences from now on."""
        self._say_goodbye(Moved(successor, tuple(sequences)))

    def _say_goodbye(self, frame: Frame) -> None:
        self.goodbye.append(frame)
        for peer in list(self.peers):
            peer.send(frame)

    def say_blamed(self, request: Request, asker: "_Peer") -> None:
        """Tell the other gateways to refuse a request; its own gateway has its error."""
        for peer in self.peers - {asker}:
            peer.send(Blamed(tuple(request.outputs), metas(request.inputs)), request.inputs)

    async def flushed(self) -> None:
        """Wait until the answers of all runs that have ended are written to the gateways."""
        for _ in range(_TICKS_TO_ANSWER):
            await asyncio.sleep(0)
        for peer in list(self.peers):
            peer.frame_stream.flush()

    async def wait_answered(self) -> None:
        """Wait until every request that was accepted is answered."""
        while running := [asked.task for peer in self.peers for asked in peer.running.values()]:
            await asyncio.wait(running)

    async def close(self) -> None:
        """Close every connection when what was sent is read; cut off those too slow."""
        self.strangers.abort()
        for peer in list(self.peers):
            peer.frame_stream.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await asyncio.gather(*(peer.lost.wait() for peer in self.peers))
        for peer in list(self.peers):
            peer.frame_stream.abort()


class _Asked(NamedTuple):
    request: Request
    task: asyncio.Task[None]


class _Peer:
    """One gateway, or a stranger until its Hello proves that it is one."""

    def __init__(self, server: ChannelServer) -> None:
        self._server = server
        self.running: dict[int, _Asked] = {}
        self.lost = asyncio.Event()
        self.frame_stream = FrameStream(self._on_hello, self._on_lost)
        server.strangers.add(self.frame_stream)

    def _on_hello(self, frame: Frame, _: list[Tensor]) -> None:
        server = self._server
        welcome = server.strangers.answer_to(frame) if isinstance(frame, Hello) else None
        if welcome is None:
            raise BadRequest(
                "frame: expected the greeting of a gateway that has the channel's token"
            )
        server.strangers.remove(self.frame_stream)
        server.peers.add(self)
        self.frame_stream.trust(self._on_frame)
        self.frame_stream.send(welcome)
        for goodbye in server.goodbye:
            self.send(goodbye)

    def _on_frame(self, frame: Frame, tensors: list[Tensor]) -> None:
        service = self._server.service
        match frame:
            case Ask():
                request = self._request(frame, tensors)
                task = asyncio.create_task(self._answer(frame.id, request))
                self.running[frame.id] = _Asked(request, task)
                # Not in the task's own `finally`: one cancelled before its first step never gets
                # there.
                task.add_done_callback(lambda _: self.running.pop(frame.id, None))
            case Cancel():
                if asked := self.running.get(frame.id):
                    # It may be in a run already, which may be stopped.
                    asked.request.stopped = partial(self._fault, frame.id)
                    asked.task.cancel()
            case Ping():
                health = service.health()
                self.frame_stream.send(Pong(health.is_ready, health.waiting_rows))
            case GetStatistics():
                self.send(StatisticsReply(frame.id, service.statistics()))
            case TakeOver():
                snapshots = unpack(frame.sequences, tensors)
                taken = service.take_over(frame.state_names, snapshots)
                self.send(TakenOver(frame.id, tuple(taken)))
            case _:
                raise BadRequest(
                    f"frame: expected one that gateways send, found {type(frame).__name__}"
                )

    def _request(self, ask: Ask, tensors: list[Tensor]) -> Request:
        request = Request(
            inputs=tensors,
            outputs=ask.outputs,
            deadline_s=monotonic() + ask.budget_us / 1e6,
            request_id=ask.request_id,
            priority=ask.priority,
            sequence=ask.sequence,
            key_id=ask.key_id,
            runs_alone=ask.runs_alone,
        )
        if ask.runs_alone:
            request.started = partial(self._announce, ask.id)
            request.ended = partial(self._say_running, NOBODY)
        return request

    async def _answer(self, ask_id: int, request: Request) -> None:
        try:
            self._reply(ask_id, await self._server.service.infer(request))
        except HeadraceError as error:
            self._fault(ask_id, request, error)
        except Exception:
            log.exception("request %s failed", request.request_id)
            self._fault(ask_id, request, InferenceFailed("the model failed on this request"))

    async def _announce(self, ask_id: int) -> None:
        """Say that a suspect runs next, after the answers of earlier runs: it may be the end."""
        await self._server.flushed()
        self._say_running(ask_id)

    def _say_running(self, ask_id: int) -> None:
        self.send(Started(ask_id))
        self.frame_stream.flush()

    def _reply(self, ask_id: int, answer: Answer) -> None:
        reply = Reply(
            id=ask_id,
            times=answer.times,
            tokens=answer.tokens,
            tensors=metas(answer.outputs),
            truncated=answer.truncated,
        )
        try:
            self.send(reply, answer.outputs)
        except TooLarge:
            raise InferenceFailed(
                "the model's answer is larger than a frame of the channel may be"
            ) from None

    def _fault(self, ask_id: int, request: Request, error: HeadraceError) -> None:
        blame = error.blame if isinstance(error, RunStopped) else "none"
        fault = Fault(
            id=ask_id,
            code=error.code,
            message=error.message,
            retry_after_s=error.retry_after_s,
            blame=blame,
        )
        self.send(fault)
        if blame == "certain":
            self._server.say_blamed(request, self)

    def send(self, frame: Frame, tensors: Sequence[Tensor] = ()) -> None:
        try:
            self.frame_stream.send(frame, tensors)
        except Overloaded:
            self.frame_stream.abort()  # a gateway that does not read is of no use

    def _on_lost(self) -> None:
        self._server.strangers.remove(self.frame_stream)
        self._server.peers.discard(self)
        self.lost.set()
        for asked in self.running.values():
            asked.task.cancel()
