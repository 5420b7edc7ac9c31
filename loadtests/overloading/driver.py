"""A lean open-loop driver in a process of its own: all requests are encoded before the first is due.

It has neither a task nor a timer for a request: one tick a millisecond sends what is due, callbacks note the answers,
and these are judged after the last one. Times are seconds since the start, which all drivers share.
"""

import asyncio
import gc
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol, cast

import httptools
import numpy as np
import numpy.typing as npt
import uvloop
from loadtests.apart import HOST
from loadtests.overloading.model import is_answer, request

__all__ = [
    "BROKEN",
    "GIVEN_UP",
    "Caller",
    "Connection",
    "Record",
    "Seconds",
    "Stream",
    "drive",
    "without_pauses",
]

# As in http_client: a connection that broke has no status, nor has an answer that was not waited for.
BROKEN, GIVEN_UP = 0, -1
_TICK_S = 0.001
_GRACE_S = 1.0
# So many leave at a time before answers are read again, if the driver is behind.
_MOST_AT_ONCE = 64
_CONNECT_AT_ONCE = 32

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stream:
    """Requests to one gateway, by their numbers, and when each is due. All have one row but the first."""

    port: int
    numbers: npt.NDArray[np.int64]
    due_s: Seconds
    deadline_s: float
    key: str = ""
    connections: int = 600
    first_rows: int = 1


@dataclass(frozen=True)
class Record:
    """What became of a stream's requests, in order: times, HTTP status, and whether a 200 was the right answer."""

    due_s: Seconds
    sent_s: Seconds
    ended_s: Seconds
    status: npt.NDArray[np.int16]
    is_right: npt.NDArray[np.bool_]


def drive(stream: Stream, start_s: float) -> Record:
    """Send a stream, its time 0 at `start_s` of the machine's monotonic clock, and return when all is settled.

    Raises OSError if the gateway takes no connection.
    """
    first, *others = stream.numbers.tolist()
    requests = [request(first, stream.deadline_s, stream.key, stream.first_rows)]
    requests += [request(number, stream.deadline_s, stream.key) for number in others]
    with without_pauses():
        return uvloop.run(_Driver(stream, requests, start_s).run())


@contextmanager
def without_pauses() -> Iterator[None]:
    """Python's collector off: its pauses would be taken for the server's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Caller(Protocol):
    """Whom a connection tells."""

    def ended(self, connection: "Connection", status: int, body: bytes, *, keep: bool) -> None: ...
    def lost(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """One request at a time; its parser's callbacks are the methods on_body and on_message_complete."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self.number = -1
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        self._caller.ended(
            self, self._parser.get_status_code(), body, keep=self._parser.should_keep_alive()
        )

    def connection_lost(self, _: Exception | None) -> None:
        self._caller.lost(self)


class _Driver:
    def __init__(self, stream: Stream, requests: Sequence[bytes], start_s: float) -> None:
        count = len(requests)
        self._stream = stream
        self._requests = requests
        self._start_s = start_s
        self._due_s: list[float] = stream.due_s.tolist()
        self._sent_s = [float("nan")] * count
        self._ended_s = [float("nan")] * count
        self._status = [GIVEN_UP] * count
        self._bodies: list[bytes] = [b""] * count
        self._next = 0
        self._unsettled = count
        self._free: list[Connection] = []
        self._line: deque[int] = deque()  # due, but all connections are busy
        self._opening: set[asyncio.Task[Any]] = set()

    async def run(self) -> Record:
        self._loop = asyncio.get_running_loop()
        self._all_settled = asyncio.Event()
        for _ in range(0, self._stream.connections, _CONNECT_AT_ONCE):
            await asyncio.gather(*(self._open() for _ in range(_CONNECT_AT_ONCE)))
        self._tick()
        patience_s = (
            self._start_s + self._due_s[-1] + self._stream.deadline_s + _GRACE_S - monotonic()
        )
        with suppress(TimeoutError):  # what is not settled stays GIVEN_UP
            async with asyncio.timeout(patience_s):
                await self._all_settled.wait()
        return self._record()

    async def _open(self) -> None:
        _, connection = await self._loop.create_connection(
            lambda: Connection(self), HOST, self._stream.port
        )
        self._is_free(connection)

    def _is_free(self, connection: Connection) -> None:
        if self._line:
            self._send(self._line.popleft(), connection)
        else:
            self._free.append(connection)

    def _tick(self) -> None:
        """Send what is due."""
        now_s = monotonic() - self._start_s
        most = min(len(self._due_s), self._next + _MOST_AT_ONCE)
        while self._next < most and self._due_s[self._next] <= now_s:
            if self._free:
                self._send(self._next, self._free.pop())
            else:
                self._line.append(self._next)
            self._next += 1
        if self._next < len(self._due_s):
            self._loop.call_later(0 if self._due_s[self._next] <= now_s else _TICK_S, self._tick)

    def _send(self, number: int, connection: Connection) -> None:
        assert connection.transport is not None
        connection.number = number
        self._sent_s[number] = monotonic() - self._start_s
        connection.transport.write(self._requests[number])

    def ended(self, connection: Connection, status: int, body: bytes, *, keep: bool) -> None:
        """Note an answer, and use its connection again or open another one."""
        self._settle(connection, status, body if status == 200 else b"")
        if keep:
            self._is_free(connection)
        elif connection.transport is not None:
            connection.transport.abort()

    def lost(self, connection: Connection) -> None:
        """A connection ended: its request, if it has one, is broken; another one takes its place."""
        if connection.number >= 0:
            self._settle(connection, BROKEN, b"")
        if connection in self._free:
            self._free.remove(connection)
        if self._unsettled:
            opening = self._loop.create_task(self._open())
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    def _settle(self, connection: Connection, status: int, body: bytes) -> None:
        number, connection.number = connection.number, -1
        self._ended_s[number] = monotonic() - self._start_s
        self._status[number] = status
        self._bodies[number] = body
        self._unsettled -= 1
        if not self._unsettled:
            self._all_settled.set()

    def _record(self) -> Record:
        numbered = zip(self._stream.numbers.tolist(), self._bodies, strict=True)
        is_right = [is_answer(number, body) for number, body in numbered]
        return Record(
            self._stream.due_s,
            np.array(self._sent_s),
            np.array(self._ended_s),
            np.array(self._status, np.int16),
            np.array(is_right, np.bool_),
        )
