"""The gateway's end of a channel: asks, and is told answers, faults and the replica's health.

A replica that goes away speaks by it too, to hand its sequences to another one.
"""

import asyncio
import itertools
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from headrace.channel.frame_stream import Address, FrameStream
from headrace.channel.frames import (
    NOBODY,
    Ask,
    Blamed,
    Cancel,
    Fault,
    Frame,
    GoingAway,
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
from headrace.channel.greeting import Greeting
from headrace.channel.withdrawn import Withdrawn
from headrace.errors import (
    BadRequest,
    Blame,
    DeadlineExceeded,
    NotReady,
    Overloaded,
    ReplicaLost,
    error_from,
)
from headrace.inference.handover import SequenceKey, SequenceSnapshot, pack
from headrace.inference.request import Answer, Request
from headrace.inference.statistics import Statistics
from headrace.inference.tensor import Tensor

__all__ = ["OnBlame", "OnMoved", "ReplicaClient", "connect", "has_ended"]

T = TypeVar("T")
# Told of each replica that took sequences over: its id in the fleet, and the sequences.
OnMoved = Callable[[str, Collection[SequenceKey]], None]
# Told of what is to blame, or may be, for a lost replica or a stopped run, though nobody waits for it any more.
OnBlame = Callable[[Request, Blame], None]

# Of a machine that is short of time: a replica that ended refuses at once.
CONNECT_TIMEOUT_S = 5.0
PING_PERIOD_S = 0.5
# A replica that leaves this many seconds of pings unanswered is avoided, one that leaves LOST_S is cut off. Pings are
# counted, not seconds, since a gateway that did not run for a while has asked nothing meanwhile.
SUSPECT_S = 1.5
LOST_S = 10.0
_SUSPECT_PINGS = round(SUSPECT_S / PING_PERIOD_S)
_LOST_PINGS = round(LOST_S / PING_PERIOD_S)


class _Asked(NamedTuple):
    request: Request
    future: asyncio.Future[Answer]
    timer: asyncio.TimerHandle


class ReplicaClient:
    """One connection to one replica. Every `ask` is settled: answered, failed, expired, or lost with the replica."""

    def __init__(self, on_moved: OnMoved | None = None, on_blame: OnBlame | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._on_moved = on_moved
        self._on_blame = on_blame
        self._loop = loop
        self._ids = itertools.count(1)
        self._asked: dict[int, _Asked] = {}
        self._withdrawn = Withdrawn()
        self._suspects: set[int] = set()
        self._alone = NOBODY  # the suspect of which the replica said last that it runs, alone
        self._telling: dict[int, asyncio.Future[Statistics]] = {}
        self._taking_over: dict[int, asyncio.Future[Collection[SequenceKey]]] = {}
        self._greeting: Greeting | None = None
        self._welcome: asyncio.Future[Welcome] = loop.create_future()
        self._pong = Pong(is_ready=False, waiting_rows=0)
        self._unanswered = 0  # pings since a frame came
        self._going_away = False
        self._pinger: asyncio.TimerHandle | None = None
        self.stream = FrameStream(self._on_welcome, self._on_lost)
        self.on_change: Callable[[], None] = _nothing  # told when it may have become ready
        self.lost = asyncio.Event()
        self.known = asyncio.Event()  # its readiness is known: it answered a ping, or is lost
        self._idle = asyncio.Event()
        self._idle.set()

    async def greet(self, token: str, place: str) -> Welcome:
        """Shake hands with the replica that is called `place`. Raises NotReady if it does not welcome us in time."""
        self._greeting = Greeting(token, place)
        self.stream.send(self._greeting.hello)
        try:
            welcome = await asyncio.wait_for(self._welcome, CONNECT_TIMEOUT_S)
        except (TimeoutError, ReplicaLost):
            raise NotReady("the replica did not welcome this gateway", retry_after_s=1) from None
        self._ping()
        return welcome

    @property
    def outstanding(self) -> int:
        return len(self._asked)

    @property
    def is_ready(self) -> bool:
        """It takes whatever comes: a replica that goes away takes nothing but steps of the sequences that it has."""
        return self.takes_steps and not self._going_away

    @property
    def takes_steps(self) -> bool:
        """It is connected, answers pings, and says that it proved itself lately."""
        return self.stream.is_open and self._pong.is_ready and self._unanswered <= _SUSPECT_PINGS

    @property
    def is_suspect(self) -> bool:
        """It was ready and is silent since: its machine may be short of time, or it may be gone."""
        is_silent = self._unanswered > _SUSPECT_PINGS
        return is_silent and self.stream.is_open and self._pong.is_ready and not self._going_away

    def send(self, request: Request) -> asyncio.Future[Answer]:
        """Send a request; cancel the future to withdraw it. Raises ReplicaLost, Overloaded or TooLarge at once."""
        if not self.stream.is_open:
            raise ReplicaLost("the replica went away", retry_after_s=1)
        ask_id = next(self._ids)
        budget_s = max(0.0, request.deadline_s - monotonic())
        ask = Ask(
            ask_id,
            int(budget_s * 1e6),
            request.priority,
            request.request_id,
            tuple(request.outputs),
            metas(request.inputs),
            request.sequence,
            request.key_id,
            request.is_suspect,
        )
        self.stream.send(ask, request.inputs)
        future: asyncio.Future[Answer] = self._loop.create_future()
        timer = self._loop.call_later(budget_s, self._expire, ask_id)
        self._asked[ask_id] = _Asked(request, future, timer)
        if request.is_suspect:
            self._suspects.add(ask_id)
        self._idle.clear()
        future.add_done_callback(lambda _: self._withdraw(ask_id))
        return future

    async def statistics(self, timeout_s: float) -> Statistics:
        """What the replica counted since it loaded. Raises ReplicaLost, Overloaded, or DeadlineExceeded in time."""
        tell = Tell(next(self._ids))
        return await self._answer_to(tell, (), self._telling, timeout_s)

    async def take_over(
        self, state_names: Sequence[str], snapshots: Sequence[SequenceSnapshot], timeout_s: float
    ) -> Collection[SequenceKey]:
        """Offer sequences, all of which have the states `state_names`; those that the replica took.

        Raises ReplicaLost, Overloaded, TooLarge, or DeadlineExceeded: then nobody knows whether it took them.
        """
        listed, tensors = pack(snapshots)
        offer = TakeOver(next(self._ids), tuple(state_names), listed, metas(tensors))
        return await self._answer_to(offer, tensors, self._taking_over, timeout_s)

    async def _answer_to(
        self,
        frame: Tell | TakeOver,
        tensors: Sequence[Tensor],
        waiting: dict[int, "asyncio.Future[T]"],
        timeout_s: float,
    ) -> T:
        if not self.stream.is_open:
            raise ReplicaLost("the replica went away", retry_after_s=1)
        answer = waiting[frame.id] = self._loop.create_future()
        try:
            self.stream.send(frame, tensors)
            return await asyncio.wait_for(answer, timeout_s)
        except TimeoutError:
            raise DeadlineExceeded("the replica did not answer in time") from None
        finally:
            del waiting[frame.id]

    def close(self) -> None:
        self._withdrawn.clear()  # that the channel ends is nobody's fault
        self.stream.close()

    async def finish(self) -> None:
        """Close once everything that was asked is settled, which its deadlines bound."""
        await self._idle.wait()
        self.close()

    def _on_welcome(self, frame: Frame, _: list[Tensor]) -> None:
        greeting = None if self._welcome.done() else self._greeting
        if not isinstance(frame, Welcome) or greeting is None or not greeting.is_answered_by(frame):
            raise BadRequest(
                "frame: expected the welcome of a replica that has the channel's token"
            )
        self.stream.trust(self._on_frame)
        self._welcome.set_result(frame)

    def _on_frame(self, frame: Frame, tensors: list[Tensor]) -> None:
        if self._unanswered > _SUSPECT_PINGS:
            self._loop.call_soon(self.on_change)
        self._unanswered = 0
        match frame:
            case Reply():
                self._withdrawn.pop(frame.id)
                if frame.id == self._alone:
                    self._alone = NOBODY
                if future := self._take(frame.id):
                    future.set_result(Answer(tensors, frame.times, frame.tokens, frame.truncated))
            case Fault():
                self._fail(frame)
            case Started():
                self._alone = frame.id
            case Pong():
                if frame.is_ready and not self._pong.is_ready:
                    self._loop.call_soon(self.on_change)
                self._pong = frame
                self.known.set()
            case _:
                self._on_news(frame, tensors)

    def _on_news(self, frame: Frame, tensors: list[Tensor]) -> None:
        match frame:
            case Blamed():
                self._tell_blame(Request(tensors, frame.outputs, deadline_s=0.0), "certain")
            case Told():
                _settle(self._telling, frame.id, frame.statistics)
            case TakenOver():
                _settle(self._taking_over, frame.id, frozenset(frame.taken))
            case GoingAway():
                self._going_away = True
            case Moved():
                if self._on_moved:
                    self._on_moved(frame.successor, frame.sequences)
            case _:
                raise BadRequest(f"frame: a replica sends no {type(frame).__name__} here")

    def _fail(self, frame: Fault) -> None:
        request = self._request_of(frame.id)
        if future := self._take(frame.id):
            future.set_exception(
                error_from(frame.code, frame.message, frame.retry_after_s, frame.blame)
            )
        elif request is not None:
            self._tell_blame(request, frame.blame)

    def _request_of(self, ask_id: int) -> Request | None:
        """What was asked, also if nobody waits for it any more: it is forgotten then."""
        asked = self._asked.get(ask_id)
        return asked.request if asked else self._withdrawn.pop(ask_id)

    def _tell_blame(self, request: Request, blame: Blame) -> None:
        if self._on_blame and blame != "none":
            self._on_blame(request, blame)

    def _blame(self, ask_id: int) -> Blame:
        """Whether what was asked may have ended the replica. Where one ran alone it was that one, and nothing else."""
        if ask_id == self._alone:
            return "certain"
        return "none" if self._alone != NOBODY or ask_id in self._suspects else "possible"

    def _take(self, ask_id: int) -> asyncio.Future[Answer] | None:
        """The future that still waits for this answer; None if it was withdrawn or has expired."""
        asked = self._asked.pop(ask_id, None)
        self._suspects.discard(ask_id)
        if not self._asked:
            self._idle.set()
        if asked is None:
            return None
        asked.timer.cancel()
        return None if asked.future.done() else asked.future

    def _expire(self, ask_id: int) -> None:
        future = self._asked[ask_id].future
        if not future.done():
            future.set_exception(DeadlineExceeded("the model did not answer before the deadline"))

    def _withdraw(self, ask_id: int) -> None:
        """A future ended before its answer came (cancelled or expired): tell the replica to drop the work."""
        asked = self._asked.get(ask_id)
        if asked is None:
            return
        self._withdrawn.put(ask_id, asked.request)
        self._take(ask_id)
        self.stream.send(Cancel(ask_id))

    def _ping(self) -> None:
        if not self.stream.is_open:
            return
        if self._unanswered > _LOST_PINGS:
            self.stream.abort()
            return
        self._withdrawn.forget()
        self._unanswered += 1
        self._pinger = self._loop.call_later(PING_PERIOD_S, self._ping)
        with suppress(Overloaded):  # it reads nothing: that is silence, too
            self.stream.send(Ping())

    def _on_lost(self) -> None:
        if self._pinger:
            self._pinger.cancel()
        if not self._welcome.done():
            self._welcome.set_exception(_lost("none"))
            self._welcome.exception()  # heard: a gateway that gave up connecting does not ask any more
        blames = {ask_id: self._blame(ask_id) for ask_id in (*self._asked, *self._withdrawn)}
        for ask_id, blame in blames.items():
            request = self._request_of(ask_id)
            if asked := self._take(ask_id):
                asked.set_exception(_lost(blame))
            elif request is not None:
                self._tell_blame(request, blame)
        waiting: list[asyncio.Future[Any]] = [
            *self._telling.values(),
            *self._taking_over.values(),
        ]  # of either's answer
        for future in waiting:
            if not future.done():
                future.set_exception(_lost("none"))
        self.known.set()
        self.lost.set()


def _lost(blame: Blame) -> ReplicaLost:
    return ReplicaLost("the replica went away before it answered", retry_after_s=1, blame=blame)


def _settle(waiting: dict[int, "asyncio.Future[T]"], frame_id: int, answer: T) -> None:
    future = waiting.get(frame_id)
    if future is not None and not future.done():
        future.set_result(answer)


def _nothing() -> None: ...


def has_ended(error: Exception) -> bool:
    """Whether `connect` found nobody at the address: a replica listens there for as long as its process lives.

    Sure on its own node alone: between nodes others may refuse.
    """
    return isinstance(error.__cause__, ConnectionRefusedError)


async def connect(
    address: Address,
    own_node: str,
    token: str,
    on_moved: OnMoved | None = None,
    on_blame: OnBlame | None = None,
) -> ReplicaClient:
    """Open a channel: the Unix socket on the same node, TCP else. Raises NotReady if that cannot be done in time."""
    loop = asyncio.get_running_loop()
    client = ReplicaClient(on_moved, on_blame)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if address.node == own_node:
                await loop.create_unix_connection(lambda: client.stream, address.unix)
            else:
                await loop.create_connection(lambda: client.stream, address.host, address.port)
    except OSError as error:  # TimeoutError is one
        raise NotReady("the replica cannot be reached", retry_after_s=1) from error
    try:
        await client.greet(token, address.unix)
    except BaseException:
        client.stream.abort()
        raise
    return client
