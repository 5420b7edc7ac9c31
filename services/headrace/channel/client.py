"""The gateway's end of a channel: sends requests, and receives answers, faults and health.

A replica that goes away uses it, too, to hand its sequences to another replica.
"""

import asyncio
import itertools
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from time import monotonic

from headrace.channel.calls import Calls
from headrace.channel.frame_stream import FrameStream
from headrace.channel.frames import (
    Ask,
    Blamed,
    Cancel,
    Fault,
    Frame,
    GetStatistics,
    GoingAway,
    Moved,
    Pong,
    Reply,
    Started,
    StatisticsReply,
    TakenOver,
    TakeOver,
    Welcome,
    metas,
)
from headrace.channel.greeting import Greeting
from headrace.channel.liveness import Liveness
from headrace.channel.pending import OnBlame, PendingRequests, replica_lost
from headrace.errors import BadRequest, NotReady, Overloaded, ReplicaLost, error_from
from headrace.inference.request import Answer, Request
from headrace.inference.sequences import SequenceKey, SequenceSnapshot, pack
from headrace.inference.statistics import Statistics
from headrace.inference.tensor import Tensor

__all__ = ["CONNECT_TIMEOUT_S", "OnMoved", "ReplicaClient"]

# Only a machine short of time needs so long: an address without a replica refuses at once.
CONNECT_TIMEOUT_S = 5.0
# Called for each replica that took sequences over, with its id in the fleet and the sequences.
OnMoved = Callable[[str, Collection[SequenceKey]], None]


class ReplicaClient:
    """A connection to a replica; every request sent is answered, fails, expires or is lost."""

    def __init__(self, on_moved: OnMoved | None = None, on_blame: OnBlame | None = None) -> None:
        self._on_moved = on_moved
        self._is_going_away = False
        self._ids = itertools.count(1)
        self._greeting: Greeting | None = None
        self._welcome: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()
        self.frame_stream = FrameStream(self._on_welcome, self._on_lost)
        self._pending = PendingRequests(self._withdraw, on_blame)
        self._statistics: Calls[Statistics] = Calls(self.frame_stream)
        self._offers: Calls[Collection[SequenceKey]] = Calls(self.frame_stream)
        self._liveness = Liveness(self.frame_stream)
        self.lost = asyncio.Event()

    async def greet(self, token: str, name: str) -> Welcome:
        """Shake hands with the replica `name`. Raises NotReady if that fails or takes too long."""
        self._greeting = Greeting(token, name)
        self.frame_stream.send(self._greeting.hello)
        try:
            welcome = await asyncio.wait_for(self._welcome, CONNECT_TIMEOUT_S)
        except (TimeoutError, ReplicaLost):
            raise NotReady("the replica did not welcome this gateway", retry_after_s=1) from None
        self._liveness.start()
        return welcome

    @property
    def outstanding(self) -> int:
        return len(self._pending)

    @property
    def known(self) -> asyncio.Event:
        """Set once the replica's readiness is known: it answered a ping, or is lost."""
        return self._liveness.known

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` when the replica may have become ready."""
        self._liveness.on_change = on_change

    @property
    def is_ready(self) -> bool:
        """True if it takes any request; one that goes away takes only steps of its sequences."""
        return self.takes_steps and not self._is_going_away

    @property
    def takes_steps(self) -> bool:
        """True if it is connected, answers pings, and proved itself lately."""
        liveness = self._liveness
        return self.frame_stream.is_open and liveness.is_ready and not liveness.is_silent

    @property
    def is_silent(self) -> bool:
        """True if it was ready and leaves pings unanswered, perhaps for want of time."""
        liveness = self._liveness
        return (
            not self._is_going_away
            and liveness.is_silent
            and liveness.is_ready
            and self.frame_stream.is_open
        )

    def send(self, request: Request) -> asyncio.Future[Answer]:
        """Send a request; cancel the future to withdraw it.

        Raises ReplicaLost, Overloaded or TooLarge at once.
        """
        if not self.frame_stream.is_open:
            raise ReplicaLost("the replica went away", retry_after_s=1)
        ask_id = next(self._ids)
        budget_s = max(0.0, request.deadline_s - monotonic())
        ask = Ask(
            id=ask_id,
            budget_us=int(budget_s * 1e6),
            outputs=tuple(request.outputs),
            tensors=metas(request.inputs),
            request_id=request.request_id,
            priority=request.priority,
            sequence=request.sequence,
            key_id=request.key_id,
            runs_alone=request.runs_alone,
        )
        self.frame_stream.send(ask, request.inputs)
        return self._pending.add(ask_id, request, budget_s)

    async def statistics(self, timeout_s: float) -> Statistics:
        """Its counts since it loaded. Raises ReplicaLost, Overloaded or DeadlineExceeded."""
        return await self._statistics.call(GetStatistics(next(self._ids)), (), timeout_s)

    async def take_over(
        self, state_names: Sequence[str], snapshots: Sequence[SequenceSnapshot], timeout_s: float
    ) -> Collection[SequenceKey]:
        """Offer sequences, all of which have the states `state_names`; return those that it took.

        Raises ReplicaLost, Overloaded, TooLarge, or DeadlineExceeded: then it may have taken them.
        """
        listed, tensors = pack(snapshots)
        offer = TakeOver(next(self._ids), tuple(state_names), listed, metas(tensors))
        return await self._offers.call(offer, tensors, timeout_s)

    def close(self) -> None:
        self._pending.withdrawn.clear()  # no request is to blame for this end
        self.frame_stream.close()

    async def finish(self) -> None:
        """Close once every request is resolved, which their deadlines bound."""
        await self._pending.wait_idle()
        self.close()

    def _withdraw(self, ask_id: int) -> None:
        with suppress(Overloaded):  # it reads nothing, so its run goes on in vain
            self.frame_stream.send(Cancel(ask_id))

    def _on_welcome(self, frame: Frame, _: list[Tensor]) -> None:
        greeting = None if self._welcome.done() else self._greeting
        if not isinstance(frame, Welcome) or greeting is None or not greeting.is_answered_by(frame):
            raise BadRequest(
                "frame: expected the welcome of a replica that has the channel's token"
            )
        self.frame_stream.trust(self._on_frame)
        self._welcome.set_result(frame)

    def _on_frame(self, frame: Frame, tensors: list[Tensor]) -> None:
        self._liveness.frame_came()
        match frame:
            case Reply():
                answer = Answer(
                    outputs=tensors,
                    times=frame.times,
                    tokens=frame.tokens,
                    truncated=frame.truncated,
                )
                self._pending.answer(frame.id, answer)
            case Fault():
                error = error_from(frame.code, frame.message, frame.retry_after_s, frame.blame)
                self._pending.fail(frame.id, error, frame.blame)
            case Pong():
                self._pending.withdrawn.forget_old()
                self._liveness.pong_came(frame)
            case StatisticsReply():
                self._statistics.answer(frame.id, frame.statistics)
            case TakenOver():
                self._offers.answer(frame.id, frozenset(frame.taken))
            case _:
                self._on_notice(frame, tensors)

    def _on_notice(self, frame: Frame, tensors: list[Tensor]) -> None:
        """Act on a frame that answers nothing."""
        match frame:
            case Started():
                self._pending.suspect_started(frame.id)
            case Blamed():
                blamed = Request(tensors, frame.outputs, deadline_s=0.0)
                self._pending.tell_blame(blamed, "certain")
            case GoingAway():
                self._is_going_away = True
            case Moved():
                if self._on_moved:
                    self._on_moved(frame.successor, frame.sequences)
            case _:
                raise BadRequest(
                    f"frame: expected one that replicas send, found {type(frame).__name__}"
                )

    def _on_lost(self) -> None:
        self._liveness.stop()
        if not self._welcome.done():
            self._welcome.set_exception(replica_lost())
            self._welcome.exception()  # marks it as retrieved: nobody may wait for it any more
        self._pending.lose()
        self._statistics.lose(replica_lost())
        self._offers.lose(replica_lost())
        self.known.set()
        self.lost.set()
