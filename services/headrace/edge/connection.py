"""One client's connection: what arrives is timed, what is whole is answered in order, what is refused is closed well.

Why not a stock server: none refuses all that must be refused, none has receipt deadlines, and their general interface
to applications costs more than the rest of a small request (DESIGN.md has the measurements).
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import cast

from headrace.edge.answers import CONTINUE, bytes_of
from headrace.edge.budget import Budget
from headrace.edge.exchange import Application, Exchange, Response
from headrace.edge.guarded import guarded
from headrace.edge.limits import EdgeLimits
from headrace.edge.peers import Peers
from headrace.edge.problems import as_ours, problem
from headrace.edge.received import ReceivedRequest
from headrace.edge.receiver import BODY, HEAD, REQUEST, Receiver
from headrace.errors import HeadraceError, ReceiptTimeout

__all__ = ["Connection"]

# How long the rest of what a refused caller sends is read and dropped: closing at once would reset the connection, and
# the answer would be lost with it.
_LINGER_S = 1.0
_END = "end"


class Connection(asyncio.Protocol):
    """Serves `app` on one connection within `limits`; `peers` counts it."""

    def __init__(
        self, app: Application, limits: EdgeLimits, budget: Budget, peers: Peers["Connection"]
    ) -> None:
        self._app = app
        self._limits = limits
        self._budget = budget
        self._peers = peers
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._peer = ""
        self._waiting: deque[ReceivedRequest] = deque()
        self._running: asyncio.Task[None] | None = None
        self._begun: ReceivedRequest | None = (
            None  # given to the running task, which has not taken it yet
        )
        self._is_ending = False  # nothing more is read; it closes once all that waits is answered
        self._is_failed = (
            False  # a request could not be read to its end, and the caller may still send the rest
        )
        self._is_draining = False
        # What is awaited from the caller, until when, and the one timer that looks after it.
        self._awaited: tuple[str, int] = ("", 0)
        self._deadline_s = self._timer_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._writable: asyncio.Future[None] | None = (
            None  # there while the caller does not read its answers
        )
        self._write_timer: asyncio.TimerHandle | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._owes_continue = False

    @guarded
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        address = transport.get_extra_info("peername")
        self._peer = str(address[0]) if address else ""
        self._receiver = Receiver(self._limits, self._budget, self._peer, self)
        if not self._peers.enter(self, self._peer):
            self._is_ending = True
            self.abort()
            return
        self._is_draining = self._peers.is_draining
        self._await_caller()

    @guarded
    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._is_ending = True
        self._transport = None
        self._peers.leave(self)
        for timer in (self._timer, self._write_timer, self._close_timer):
            if timer is not None:
                timer.cancel()
        if self._running is not None:
            self._running.cancel()
        self._leave()

    def _leave(self) -> None:
        """The caller is gone: what it asked and nobody took up is dropped."""
        assert self._receiver is not None, "the connection was made"
        left = [self._begun, *self._waiting] if self._begun is not None else list(self._waiting)
        exchanges = [whole.exchange for whole in left]
        if self._receiver.arriving is not None:
            exchanges.append(self._receiver.arriving)
        self._begun = None
        self._waiting.clear()
        self._receiver.drop()
        self._budget.give_back(sum(len(whole.body) for whole in left))
        for exchange in exchanges:
            self._app.left(exchange)

    def data_received(self, data: bytes) -> None:
        """Read on; with nothing, what was held back while too many requests waited."""
        if self._is_ending:
            return
        assert self._receiver is not None, "the connection was made"
        try:
            self._receiver.feed(data)
            self._await_caller()
        except HeadraceError as error:
            self._fail(error)
        except Exception as error:
            self.break_off(error)

    def eof_received(self) -> bool:
        """A caller who sends no more is taken to be gone, and its work with it; but half a request is answered."""
        self._end_of_input()
        return True

    @guarded
    def _end_of_input(self) -> None:
        assert self._receiver is not None, "the connection was made"
        if not self._is_ending and self._running is None:
            try:
                self._receiver.end()
            except HeadraceError as error:
                self._fail(error)
                return
        self.close()

    @guarded
    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()
        self._write_timer = self._loop.call_later(self._limits.write_timeout_s, self.abort)

    @guarded
    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)
        if self._write_timer is not None:
            self._write_timer.cancel()

    @guarded
    def drain(self) -> None:
        """Answer what has begun to arrive, then close."""
        self._is_draining = True
        if self._awaited[0] == REQUEST and self._running is None:
            self.close()

    def close(self) -> None:
        """Close once all that was written is sent, or cut off a caller who does not read it."""
        self._is_ending = True
        if self._transport is not None and self._close_timer is None:
            self._close_timer = self._loop.call_later(self._limits.write_timeout_s, self.abort)
            self._transport.close()

    @property
    def patience(self) -> tuple[bool, float] | None:
        """First those of which nothing has begun to arrive, and of these, as of the others, whose time is up first."""
        transport = self._transport
        if self._running is not None or transport is None or transport.get_write_buffer_size():
            return None
        kind, requests = self._awaited
        is_arriving = kind in (HEAD, BODY)
        # TLS does not tell how much of an answer is still to be sent: who had one keeps its place.
        if requests > is_arriving and transport.get_extra_info("sslcontext") is not None:
            return None
        return is_arriving, self._deadline_s

    def abort(self) -> None:
        """Cut the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def admit(self, exchange: Exchange, target: bytes) -> None:
        self._app.admit(exchange, target)

    def go_on(self) -> None:
        if self._running is not None:
            self._owes_continue = True  # once the answers before it are written
        elif self._transport is not None:
            self._transport.write(CONTINUE)

    def take(self, whole: ReceivedRequest) -> None:
        self._waiting.append(whole)
        self._owes_continue = False  # it did not wait for it
        if self._running is None:
            self._run_next()
        elif self.is_full() and self._transport is not None:
            self._transport.pause_reading()

    def is_full(self) -> bool:
        return len(self._waiting) >= self._limits.max_pipelined

    def _run_next(self) -> None:
        was_full = self.is_full()
        self._begun = self._waiting.popleft()
        self._running = self._loop.create_task(self._run(self._begun))
        if was_full:
            self.data_received(b"")
            if not self.is_full() and self._transport is not None:
                self._transport.resume_reading()

    async def _run(self, whole: ReceivedRequest) -> None:
        self._begun = None
        try:
            response = await self._response(whole)
        finally:
            self._budget.give_back(len(whole.body))
        if self._writable is not None:
            await self._writable
        self._running = None
        if self._transport is None:
            return
        keep = whole.keep and not self._is_draining and not (self._is_ending and not self._waiting)
        try:
            data = bytes_of(response, whole.exchange.method, keep=keep)
        except Exception as error:
            keep = False
            data = bytes_of(self._broken(whole, error), whole.exchange.method, keep=False)
        self._transport.write(data)
        if not keep:
            self._last_answered()
        elif self._waiting:
            self._run_next()
        elif self._owes_continue:
            self._owes_continue = False
            self._transport.write(CONTINUE)
        elif self._awaited[0] == REQUEST:
            self._await(self._awaited, self._limits.keep_alive_s)

    @guarded
    def _last_answered(self) -> None:
        try:
            self._leave()
        finally:
            self._end()

    async def _response(self, whole: ReceivedRequest) -> Response:
        """The application's response; one that breaks is answered all the same, for else the caller would wait."""
        try:
            if whole.error is not None:
                return self._app.refuse(whole.exchange, whole.error)
            return await self._app.answer(whole.exchange, whole.body)
        except Exception as error:
            return self._broken(whole, error)

    def _broken(self, whole: ReceivedRequest, error: Exception) -> Response:
        self._is_draining = True  # nothing more of this connection
        return problem(
            error, whole.exchange.request_id, whole.exchange.path, whole.exchange.headers
        )

    def _fail(self, error: HeadraceError) -> None:
        """Answer what cannot be read to its end, after all that is whole, and end the connection."""
        assert self._receiver is not None, "the connection was made"
        self._is_ending = self._is_failed = True
        exchange = self._receiver.arriving or Exchange("", {}, self._peer, 0)
        self._receiver.drop()
        self.take(ReceivedRequest(exchange, b"", error, keep=False))

    def break_off(self, error: Exception) -> None:
        """End after what nobody foresaw: it is logged here, and answered if anybody can still be answered."""
        ours = as_ours(error)
        if self._is_ending or self._receiver is None:
            self.close()
        else:
            self._fail(ours)

    def _end(self) -> None:
        """Close; but what a caller still sends of a refused request is read and dropped for a moment before."""
        self._is_ending = True
        if not self._is_failed or self._transport is None or not self._transport.can_write_eof():
            self.close()
            return
        with suppress(OSError):
            self._transport.write_eof()
        self._await((_END, 0), _LINGER_S)

    def _await_caller(self) -> None:
        """Set the deadline of what the caller is to send next: once for each such thing, however it trickles."""
        assert self._receiver is not None, "the connection was made"
        awaited = self._receiver.awaited
        if awaited != self._awaited:
            limits = self._limits
            kind = awaited[0]
            seconds = limits.keep_alive_s if kind == REQUEST else limits.head_timeout_s
            self._await(awaited, limits.body_timeout_s if kind == BODY else seconds)

    def _await(self, awaited: tuple[str, int], seconds: float) -> None:
        self._awaited = awaited
        self._deadline_s = self._loop.time() + seconds
        if self._timer is None or self._deadline_s < self._timer_s:
            self._look_at(self._deadline_s)

    def _look_at(self, when_s: float) -> None:
        """Have the one timer fire then; a deadline that moves away moves no timer, since most do with each request."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = when_s
        self._timer = self._loop.call_at(when_s, self._on_timer)

    @guarded
    def _on_timer(self) -> None:
        self._timer = None
        kind = self._awaited[0]
        if self._loop.time() < self._deadline_s:
            self._look_at(self._deadline_s)
        elif (kind == REQUEST and self._running is not None) or self.is_full():
            self._await(
                self._awaited, self._limits.keep_alive_s
            )  # the caller awaits us, not we the caller
        elif kind in (REQUEST, _END):
            self.close()
        elif not self._is_ending:
            limit_s = self._limits.head_timeout_s if kind == HEAD else self._limits.body_timeout_s
            self._fail(ReceiptTimeout(f"{kind}: expected all of it within {limit_s:g} s"))
