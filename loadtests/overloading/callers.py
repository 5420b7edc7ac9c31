"""Callers who always want one more answer, and callers who leave at random, in a process each."""

import asyncio
from dataclasses import dataclass
from time import monotonic

import numpy as np
import numpy.typing as npt
import uvloop
from loadtests.open_loop import poisson_schedule
from loadtests.overloading.driver import without_pauses
from loadtests.overloading.model import BATCH_S, MAX_ROWS, request
from loadtests.support.http_connection import HttpConnection
from loadtests.support.ports import HOST

__all__ = ["Left", "leave", "saturate"]

_DEADLINE_S = 5.0
# Enough that a full batch waits whenever one ends.
_CALLERS = 4 * MAX_ROWS
_WARM_UP_S = 2.0
_MOST_STAY_S = 2 * BATCH_S


@dataclass(frozen=True)
class Left:
    """For each request: true if it was answered before its caller left."""

    is_answered: npt.NDArray[np.bool_]


def saturate(port: int, seconds: float) -> float:
    """Measure answers a second with so many callers that a full batch always waits.

    Raises OSError if the gateway takes no connection, and RuntimeError for any answer but a 200.
    """
    with without_pauses():
        return uvloop.run(_Saturation().run(port, seconds))


class _Saturation:
    """Connections that send again as soon as they are answered."""

    def __init__(self) -> None:
        self._ended_s: list[float] = []
        self._request = request(0, _DEADLINE_S)
        self._fault = ""

    async def run(self, port: int, seconds: float) -> float:
        loop = asyncio.get_running_loop()
        connections = [
            (await loop.create_connection(lambda: HttpConnection(self), HOST, port))[1]
            for _ in range(_CALLERS)
        ]
        for connection in connections:
            self._send(connection)
        await asyncio.sleep(_WARM_UP_S)
        self._ended_s.clear()
        await asyncio.sleep(seconds)
        ended_s, fault = np.array(self._ended_s), self._fault
        for connection in connections:
            connection.close()
        if fault or len(ended_s) <= MAX_ROWS:
            raise RuntimeError(fault or "there were no answers")
        # Answers come a batch at a time: those of the first one mark the beginning.
        return float((len(ended_s) - MAX_ROWS) / (ended_s[-MAX_ROWS] - ended_s[0]))

    def ended(self, connection: HttpConnection, status: int, body: bytes, *, keep: bool) -> None:
        self._ended_s.append(monotonic())
        if status != 200 or not keep:
            self._fault = (
                f"expected 200 on a connection that is kept, found {status}: {body[:200]!r}"
            )
        else:
            self._send(connection)

    def lost(self, _: HttpConnection) -> None:
        self._fault = self._fault or "a connection broke"

    def _send(self, connection: HttpConnection) -> None:
        connection.send(self._request)


def leave(port: int, first: int, count: int, rate: float) -> Left:
    """Send `count` requests on a connection each, and close it at random, answered or not."""
    return uvloop.run(_Leavers().run(port, first, count, rate))


class _Leavers:
    def __init__(self) -> None:
        self._answered: set[int] = set()

    async def run(self, port: int, first: int, count: int, rate: float) -> Left:
        stays_s = np.random.default_rng(1).uniform(0.0, _MOST_STAY_S, count).tolist()
        start_s = monotonic()
        async with asyncio.TaskGroup() as group:
            for n, due_s in enumerate(poisson_schedule(rate, count / rate)[:count]):
                if (wait_s := start_s + due_s - monotonic()) > 0:
                    await asyncio.sleep(wait_s)
                group.create_task(self._one(port, first + n, stays_s[n]))
        return Left(np.array([first + n in self._answered for n in range(count)]))

    async def _one(self, port: int, number: int, stay_s: float) -> None:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: HttpConnection(self), HOST, port
        )
        connection.number = number
        connection.send(request(number, _DEADLINE_S))
        await asyncio.sleep(stay_s)
        connection.close()

    def ended(self, connection: HttpConnection, status: int, body: bytes, *, keep: bool) -> None:  # noqa: ARG002
        if status == 200:
            self._answered.add(connection.number)

    def lost(self, _: HttpConnection) -> None:
        pass
