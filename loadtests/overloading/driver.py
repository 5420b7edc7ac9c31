"""A lean open-loop driver in a process of its own: all requests are encoded before the first is
due.

It has neither a task nor a timer for a request: one tick a millisecond sends what is due, callbacks
note the answers, and these are judged after the last one. Times are seconds since the start, which
all drivers share.
"""

import asyncio
import gc
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt
import uvloop
from loadtests.overloading.model import is_answer, request
from loadtests.support.http_connection import BROKEN, GIVEN_UP, HttpConnection
from loadtests.support.ports import HOST

__all__ = ["Record", "Seconds", "Stream", "drive", "without_pauses"]

_TICK_S = 0.001
_GRACE_S = 1.0
# So many leave at a time before answers are read again, if the driver is behind.
_MOST_AT_ONCE = 64
_CONNECT_AT_ONCE = 32

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stream:
    """Requests to one gateway: numbers and due times. All have one row but the first."""

    port: int
    numbers: npt.NDArray[np.int64]
    due_s: Seconds
    deadline_s: float
    key: str = ""
    connections: int = 600
    first_rows: int = 1


@dataclass(frozen=True)
class Record:
    """The results of a stream's requests, in order; `is_right` if a 200 had the right answer."""

    due_s: Seconds
    sent_s: Seconds
    ended_s: Seconds
    status: npt.NDArray[np.int16]
    is_right: npt.NDArray[np.bool_]


def drive(stream: Stream, start_s: float) -> Record:
    """Send a stream, its time 0 at `start_s` of the monotonic clock, and wait for all results.

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
        self._unanswered = count
        self._free: list[HttpConnection] = []
        self._queue: deque[int] = deque()  # due, but all connections are busy
        self._opening: set[asyncio.Task[Any]] = set()

    async def run(self) -> Record:
        self._loop = asyncio.get_running_loop()
        self._all_answered = asyncio.Event()
        for _ in range(0, self._stream.connections, _CONNECT_AT_ONCE):
            await asyncio.gather(*(self._open() for _ in range(_CONNECT_AT_ONCE)))
        self._tick()
        patience_s = (
            self._start_s + self._due_s[-1] + self._stream.deadline_s + _GRACE_S - monotonic()
        )
        with suppress(TimeoutError):  # those without an answer stay GIVEN_UP
            async with asyncio.timeout(patience_s):
                await self._all_answered.wait()
        return self._record()

    async def _open(self) -> None:
        _, connection = await self._loop.create_connection(
            lambda: HttpConnection(self), HOST, self._stream.port
        )
        self._is_free(connection)

    def _is_free(self, connection: HttpConnection) -> None:
        if self._queue:
            self._send(self._queue.popleft(), connection)
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
                self._queue.append(self._next)
            self._next += 1
        if self._next < len(self._due_s):
            self._loop.call_later(0 if self._due_s[self._next] <= now_s else _TICK_S, self._tick)

    def _send(self, number: int, connection: HttpConnection) -> None:
        connection.number = number
        self._sent_s[number] = monotonic() - self._start_s
        connection.send(self._requests[number])

    def ended(self, connection: HttpConnection, status: int, body: bytes, *, keep: bool) -> None:
        """Note an answer, and use its connection again or open another one."""
        self._record_answer(connection, status, body if status == 200 else b"")
        if keep:
            self._is_free(connection)
        else:
            connection.close()

    def lost(self, connection: HttpConnection) -> None:
        """Mark the request of a lost connection as broken, and open another connection."""
        if connection.number >= 0:
            self._record_answer(connection, BROKEN, b"")
        if connection in self._free:
            self._free.remove(connection)
        if self._unanswered:
            opening = self._loop.create_task(self._open())
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    def _record_answer(self, connection: HttpConnection, status: int, body: bytes) -> None:
        number, connection.number = connection.number, -1
        self._ended_s[number] = monotonic() - self._start_s
        self._status[number] = status
        self._bodies[number] = body
        self._unanswered -= 1
        if not self._unanswered:
            self._all_answered.set()

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
