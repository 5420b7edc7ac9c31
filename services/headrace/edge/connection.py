"""One client's connection: bounds the time to receive, answers in order, and loses no answer.

No stock server refuses all that must be refused and has receipt deadlines, and their general
interface costs more than the rest of a small request (DESIGN.md has the measurements).
"""

import asyncio
from collections import deque
from enum import Enum, auto
from typing import cast

from headrace.edge.answers import bytes_of
from headrace.edge.budget import Budget
from headrace.edge.exchange import Application, Exchange, Response
from headrace.edge.guarded import guarded
from headrace.edge.limits import EdgeLimits
from headrace.edge.peers import Peers
from headrace.edge.problems import as_ours, problem
from headrace.edge.receipt_deadline import ReceiptDeadline
from headrace.edge.received import ReceivedRequest
from headrace.edge.receiver import NOTHING, REQUEST, Receiver
from headrace.edge.writer import Writer
from headrace.errors import HeadraceError, ReceiptTimeout

__all__ = ["Connection"]

# A refused caller's remaining bytes are read and dropped for this long: closing at once would reset
# the connection, and the answer would be lost with it.
_LINGER_S = 1.0


class State(Enum):
    OPEN = auto()  # requests are read
    ENDING = auto()  # a request could not be read to its end: its refusal is the last answer
    LINGERING = auto()  # all is answered, and what still arrives is dropped
    CLOSED = auto()  # closing, or gone


_OPEN = State.OPEN  # compared with each request: looking a member up takes 20 ns longer


class Connection(asyncio.Protocol):
    """Serves `app` on one connection within `limits`; `peers` counts it."""

    # Made once the connection is: a TLS handshake comes before that, and may never end.
    _receiver: Receiver
    _writer: Writer
    _deadline: ReceiptDeadline
    _waiting: deque[ReceivedRequest]

    def __init__(
        self, app: Application, limits: EdgeLimits, budget: Budget, peers: Peers["Connection"]
    ) -> None:
        self._app = app
        self._limits = limits
        self._budget = budget
        self._peers = peers
        self._loop = asyncio.get_running_loop()
        self._state = _OPEN
        self._is_draining = False  # the next answer is the last, even if more requests have arrived
        self._running: asyncio.Task[None] | None = None
        self._starting: ReceivedRequest | None = None  # its task has not taken its first step
        self._owes_continue = False

    @guarded
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        limits = self._limits
        self._receiver = Receiver(limits, self._budget, self)
        self._writer = Writer(limits.write_timeout_s)
        self._deadline = ReceiptDeadline(limits, self._on_deadline)
        self._waiting = deque()
        self._writer.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        address = transport.get_extra_info("peername")
        self._receiver.peer = str(address[0]) if address else ""
        if self._peers.enter(self, self._receiver.peer):
            self._is_draining = self._peers.is_draining
            self._deadline.follow(self._receiver.awaited)
        else:
            self._state = State.CLOSED
            self.abort()

    @guarded
    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._state = State.CLOSED
        self._writer.lose()
        self._deadline.cancel()
        self._peers.leave(self)
        if self._running is not None:
            self._running.cancel()
        self._drop_unanswered()

    def _drop_unanswered(self) -> None:
        """Drop the requests of a caller who is gone or has had its last answer."""
        starting = [] if self._starting is None else [self._starting]
        dropped = [*starting, *self._waiting]
        exchanges = [received.exchange for received in dropped]
        self._starting = None
        self._waiting.clear()
        if (arriving := self._receiver.drop()) is not None:
            exchanges.append(arriving)
        self._budget.give_back(sum(len(received.body) for received in dropped))
        for exchange in exchanges:
            self._app.left(exchange)

    def data_received(self, data: bytes) -> None:
        """Read on; without data, read what was held back while too many requests waited."""
        if self._state is not _OPEN:
            return
        try:
            self._receiver.feed(data)
            self._deadline.follow(self._receiver.awaited)
        except HeadraceError as error:
            self._fail(error)
        except Exception as error:
            self.break_off(error)

    def eof_received(self) -> bool:
        """Take a caller who sends no more to be gone: drop its work, but refuse half a request."""
        self._end_of_input()
        return True

    @guarded
    def _end_of_input(self) -> None:
        try:
            if self._state is _OPEN and self._running is None:
                self._receiver.end()
        except HeadraceError as error:
            self._fail(error)
        else:
            self.close()

    @guarded
    def pause_writing(self) -> None:
        self._writer.pause()

    @guarded
    def resume_writing(self) -> None:
        self._writer.resume()

    @guarded
    def drain(self) -> None:
        """Answer what has begun to arrive, then close."""
        self._is_draining = True
        if self._deadline.part[0] == REQUEST and self._running is None:
            self.close()

    def close(self) -> None:
        """Close once all that was written is sent."""
        self._state = State.CLOSED
        self._writer.close()

    def abort(self) -> None:
        """Cut the connection now."""
        self._writer.abort()

    @property
    def patience(self) -> tuple[bool, float] | None:
        transport = self._writer.transport
        if self._running is not None or transport is None:
            return None
        return self._deadline.patience(transport)

    def admit(self, exchange: Exchange, target: bytes) -> None:
        self._app.admit(exchange, target)

    def invite_body(self) -> None:
        if self._running is not None:
            self._owes_continue = True  # once the answers before it are written
        else:
            self._writer.write_continue()

    def take(self, received: ReceivedRequest) -> None:
        self._waiting.append(received)
        self._owes_continue = False  # the caller sent its body without it
        if self._running is None:
            self._run_next()
        elif self.is_full() and self._writer.transport is not None:
            self._writer.transport.pause_reading()

    def is_full(self) -> bool:
        return len(self._waiting) >= self._limits.max_pipelined

    def _run_next(self) -> None:
        was_full = self.is_full()
        self._starting = self._waiting.popleft()
        self._running = self._loop.create_task(self._run(self._starting))
        if was_full:
            self.data_received(b"")
            if not self.is_full() and self._writer.transport is not None:
                self._writer.transport.resume_reading()

    async def _run(self, received: ReceivedRequest) -> None:
        self._starting = None
        try:
            response = await self._response(received)
        finally:
            self._budget.give_back(len(received.body))
        writer = self._writer
        if writer.resumed is not None:
            await writer.resumed
        self._running = None
        if writer.transport is None:
            return
        has_next = self._state is _OPEN or bool(self._waiting)
        keep = received.keep and has_next and not self._is_draining
        try:
            data = bytes_of(response, received.exchange.method, keep=keep)
        except Exception as error:
            keep = False
            broken = self._broken(received.exchange, error)
            data = bytes_of(broken, received.exchange.method, keep=False)
        writer.transport.write(data)
        if not keep:
            self._end()
        elif self._waiting:
            self._run_next()
        elif self._owes_continue:
            self._owes_continue = False
            writer.write_continue()
        elif self._deadline.part[0] == REQUEST:
            self._deadline.set(self._limits.keep_alive_s)

    async def _response(self, received: ReceivedRequest) -> Response:
        """The application's response; if it fails, answer all the same, so that no caller hangs."""
        try:
            if received.error is not None:
                return self._app.refuse(received.exchange, received.error)
            return await self._app.answer(received.exchange, received.body)
        except Exception as error:
            return self._broken(received.exchange, error)

    def _broken(self, exchange: Exchange, error: Exception) -> Response:
        self._is_draining = True
        return problem(error, exchange.request_id, exchange.route.errors, exchange.headers)

    def _fail(self, error: HeadraceError) -> None:
        """Refuse what cannot be read to its end, after the answers before it, and end."""
        self._state = State.ENDING
        exchange = self._receiver.drop() or Exchange("", {}, self._receiver.peer, 0)
        self.take(ReceivedRequest(exchange=exchange, body=b"", error=error, keep=False))

    def break_off(self, error: Exception) -> None:
        """End after an unforeseen error: log it, and answer it if anybody can still be answered."""
        ours = as_ours(error)
        if self._state is _OPEN:
            self._fail(ours)
        else:
            self.close()

    @guarded
    def _end(self) -> None:
        """Close after the last answer; after a refusal, first drop what the caller still sends."""
        try:
            self._drop_unanswered()
        finally:
            if self._state is State.ENDING and self._writer.end():
                self._state = State.LINGERING
                self._deadline.part = NOTHING
                self._deadline.set(_LINGER_S)
            else:
                self.close()

    @guarded
    def _on_deadline(self) -> None:
        kind = self._deadline.part[0]
        if (kind == REQUEST and self._running is not None) or self.is_full():
            self._deadline.set(self._limits.keep_alive_s)  # the caller waits for us
        elif kind == REQUEST or self._state is State.LINGERING:
            self.close()
        elif self._state is _OPEN:
            limit_s = self._deadline.limit_s
            self._fail(ReceiptTimeout(f"{kind}: expected all of it within {limit_s:g} s"))
