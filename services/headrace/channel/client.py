"""The gateway's end of a channel: asks, and is told answers, faults and the replica's health."""

import asyncio
import itertools
from time import monotonic

from headrace.channel.frames import (
    Ask,
    Cancel,
    Fault,
    Frame,
    GoingAway,
    Hello,
    Ping,
    Pong,
    Reply,
    Started,
    Tell,
    Told,
    Welcome,
    metas,
)
from headrace.channel.stream import Address, FrameStream
from headrace.errors import Blame, DeadlineExceeded, NotReady, ReplicaLost, error_from
from headrace.statistics import Statistics
from headrace.tensor import Answer, Request, Tensor

__all__ = ["ReplicaClient", "connect"]

CONNECT_TIMEOUT_S = 2.0
PING_PERIOD_S = 0.5
# A replica that leaves this many seconds of pings unanswered is avoided, one that leaves LOST_S is cut off.
SUSPECT_S = 1.5
LOST_S = 10.0


class ReplicaClient:
    """One connection to one replica. Every `ask` is settled: answered, failed, expired, or lost with the replica."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._ids = itertools.count(1)
        self._asked: dict[int, tuple[asyncio.Future[Answer], asyncio.TimerHandle]] = {}
        self._suspects: set[int] = set()
        self._alone = 0  # the suspect of which the replica said last that it runs, alone
        self._telling: dict[int, asyncio.Future[Statistics]] = {}
        self._welcome: asyncio.Future[Welcome] = loop.create_future()
        self._pong = Pong(is_ready=False, waiting_rows=0)
        self._heard_s = monotonic()
        self._going_away = False
        self._pinger: asyncio.TimerHandle | None = None
        self.stream = FrameStream(self._on_frame, self._on_lost)
        self.lost = asyncio.Event()
        self.known = asyncio.Event()  # its readiness is known: it answered a ping, or is lost
        self._idle = asyncio.Event()
        self._idle.set()

    async def greet(self, token: str) -> Welcome:
        """Shake hands. Raises NotReady if the replica does not welcome us in time."""
        self.stream.send(Hello(token))
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
        """It is connected, answers pings, says that it proved itself lately, and does not drain."""
        silent_s = monotonic() - self._heard_s
        return self.stream.is_open and self._pong.is_ready and not self._going_away and silent_s < SUSPECT_S

    def ask(self, request: Request) -> asyncio.Future[Answer]:
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
            request.owner,
            request.is_suspect,
        )
        self.stream.send(ask, request.inputs)
        future: asyncio.Future[Answer] = self._loop.create_future()
        timer = self._loop.call_later(budget_s, self._expire, ask_id)
        self._asked[ask_id] = (future, timer)
        if request.is_suspect:
            self._suspects.add(ask_id)
        self._idle.clear()
        future.add_done_callback(lambda _: self._withdraw(ask_id))
        return future

    async def statistics(self, timeout_s: float) -> Statistics:
        """What the replica counted since it loaded. Raises ReplicaLost, Overloaded, or DeadlineExceeded in time."""
        if not self.stream.is_open:
            raise ReplicaLost("the replica went away", retry_after_s=1)
        tell_id = next(self._ids)
        told = self._telling[tell_id] = self._loop.create_future()
        try:
            self.stream.send(Tell(tell_id))
            return await asyncio.wait_for(told, timeout_s)
        except TimeoutError:
            raise DeadlineExceeded("the replica did not tell its statistics in time") from None
        finally:
            del self._telling[tell_id]

    def close(self) -> None:
        self.stream.close()

    async def finish(self) -> None:
        """Close once everything that was asked is settled, which its deadlines bound."""
        await self._idle.wait()
        self.close()

    def _on_frame(self, frame: Frame, tensors: list[Tensor]) -> None:
        self._heard_s = monotonic()
        match frame:
            case Reply():
                if future := self._take(frame.id):
                    future.set_result(Answer(tensors, frame.times, frame.tokens))
            case Fault():
                if future := self._take(frame.id):
                    future.set_exception(error_from(frame.code, frame.message, frame.retry_after_s))
            case Started():
                self._alone = frame.id
            case Told():
                self._on_told(frame)
            case Pong():
                self._pong = frame
                self.known.set()
            case GoingAway():
                self._going_away = True
            case Welcome() if not self._welcome.done():
                self._welcome.set_result(frame)
            case _:
                self.stream.abort()

    def _on_told(self, frame: Told) -> None:
        told = self._telling.get(frame.id)
        if told is not None and not told.done():
            told.set_result(frame.statistics)

    def _blame(self, ask_id: int) -> Blame:
        """Whether what was asked may have ended the replica. Where one ran alone it was that one, and nothing else."""
        if ask_id == self._alone:
            return "certain"
        return "none" if self._alone in self._asked or ask_id in self._suspects else "possible"

    def _take(self, ask_id: int) -> asyncio.Future[Answer] | None:
        """The future that still waits for this answer; None if it was withdrawn or has expired."""
        future, timer = self._asked.pop(ask_id, (None, None))
        self._suspects.discard(ask_id)
        if not self._asked:
            self._idle.set()
        if timer is not None:
            timer.cancel()
        return future if future is not None and not future.done() else None

    def _expire(self, ask_id: int) -> None:
        future, _ = self._asked[ask_id]
        if not future.done():
            future.set_exception(DeadlineExceeded("the model did not answer before the deadline"))

    def _withdraw(self, ask_id: int) -> None:
        """A future ended before its answer came (cancelled or expired): tell the replica to drop the work."""
        if self._asked.get(ask_id) is None:
            return
        self._take(ask_id)
        self.stream.send(Cancel(ask_id))

    def _ping(self) -> None:
        if not self.stream.is_open:
            return
        if monotonic() - self._heard_s > LOST_S:
            self.stream.abort()
            return
        self.stream.send(Ping())
        self._pinger = self._loop.call_later(PING_PERIOD_S, self._ping)

    def _on_lost(self) -> None:
        if self._pinger:
            self._pinger.cancel()
        if not self._welcome.done():
            self._welcome.set_exception(_lost("none"))
        blames = {ask_id: self._blame(ask_id) for ask_id in self._asked}
        for ask_id, blame in blames.items():
            if future := self._take(ask_id):
                future.set_exception(_lost(blame))
        for told in self._telling.values():
            if not told.done():
                told.set_exception(_lost("none"))
        self.known.set()
        self.lost.set()


def _lost(blame: Blame) -> ReplicaLost:
    return ReplicaLost("the replica went away before it answered", retry_after_s=1, blame=blame)


async def connect(address: Address, own_node: str, token: str) -> ReplicaClient:
    """Open a channel: the Unix socket on the same node, TCP else. Raises NotReady if that cannot be done in time."""
    loop = asyncio.get_running_loop()
    client = ReplicaClient()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if address.node == own_node:
                await loop.create_unix_connection(lambda: client.stream, address.unix)
            else:
                await loop.create_connection(lambda: client.stream, address.host, address.port)
    except OSError:  # TimeoutError is one
        raise NotReady("the replica cannot be reached", retry_after_s=1) from None
    try:
        await client.greet(token)
    except BaseException:
        client.stream.abort()
        raise
    return client
