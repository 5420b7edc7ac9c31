"""Requests that wait for a replica: first come, first served, bounded, and for limited time.

Requests with time left wait while every replica is silent, connecting, restarting or being
replaced. Once a replica is ready, the queue admits enough requests to fill its next batches,
and two more for each one that ends: so a replica that has just started is not flooded, and the
queue drains however many requests still come.
"""

import asyncio
import itertools
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic

from headrace.channel import ReplicaClient
from headrace.errors import HeadraceError, NotReady
from headrace.telemetry.events import GatewayEvents
from headrace_models.spec import ModelSpec

__all__ = ["VersionQueue", "WaitQueues", "Waiter", "wait_until_s"]

# The share of the remaining time that may be waited: the rest is for running.
_SHARE = 2 / 3
# Batches of waiting requests that one ready replica is given at a time.
_BATCHES = 2


def wait_until_s(deadline_s: float) -> float:
    """Until when a request of this deadline may wait for a replica, counted from now."""
    now_s = monotonic()
    return now_s + _SHARE * max(0.0, deadline_s - now_s)


class Waiter:
    """A request in its version's queue, which remains a waiter until `end`, also while it runs.

    Once admitted it holds a permit to go to a replica, until `end`.
    """

    __slots__ = ("_admission", "is_admitted", "is_last_resort", "key", "queue", "tried", "until_s")

    def __init__(
        self,
        queue: "VersionQueue",
        key: tuple[bool, int],
        tried: Sequence[ReplicaClient],
        deadline_s: float,
    ) -> None:
        self.queue = queue
        self.key = key  # sorts the queue
        self.tried = tried
        self.until_s = wait_until_s(deadline_s)
        self.is_admitted = False
        self.is_last_resort = False  # no replica became ready while it waited
        self._admission: asyncio.Future[None] | None = None

    def can_go(self) -> bool:
        """A replica is ready that it has not tried."""
        return any(r.is_ready and r not in self.tried for r in self.queue.clients.values())

    def admit(self) -> None:
        self.is_admitted = True
        if self._admission is not None and not self._admission.done():
            self._admission.set_result(None)

    def refuse(self, error: HeadraceError) -> None:
        if self._admission is not None and not self._admission.done():
            self._admission.set_exception(error)

    def end(self) -> None:
        """Give back the permit, if it has one, for those behind it."""
        if self.is_admitted:
            self.is_admitted = False
            self.queue.permit_returned()

    async def wait_admitted(self) -> None:
        """Raises TimeoutError when the time to wait is over, and the error of `refuse`."""
        self._admission = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(self.until_s - monotonic()):
            await self._admission


@dataclass(eq=False, slots=True)
class VersionQueue:
    """The requests that wait for a replica of a version; `clients` lead to its replicas.

    `waiting` counts `waiters` and steps of sequences. `admitted` requests hold a permit now, and
    `answered` ones gave theirs back since a replica became ready.
    """

    spec: ModelSpec
    clients: dict[str, ReplicaClient]
    waiters: list[Waiter] = field(default_factory=list)
    waiting: int = 0
    admitted: int = 0
    answered: int = 0
    is_closed: bool = False

    def advance(self) -> None:
        """Admit as many waiters as there are permits, after something changed."""
        ready = sum(r.is_ready for r in self.clients.values())
        if not ready or not self.waiters:
            self.answered = 0
            return
        batch = self.spec.batching.max_rows if self.spec.is_batched else 1
        permits = _BATCHES * batch * ready + self.answered - self.admitted
        for waiter in self.waiters[:]:
            if permits <= 0:
                return
            if waiter.can_go():
                self.waiters.remove(waiter)
                self.admitted += 1
                permits -= 1
                waiter.admit()

    def permit_returned(self) -> None:
        """An admitted request has ended, which makes room for two."""
        self.admitted -= 1
        self.answered += 1
        self.advance()

    def refuse(self, error: Callable[[], HeadraceError]) -> None:
        """Fail all waiters, each with an error of its own."""
        for waiter in self.waiters:
            waiter.refuse(error())

    def close(self) -> None:
        """Refuse all waiters, now and later: the version is gone for good."""
        self.is_closed = True
        self.refuse(_gone)


class WaitQueues:
    """Bounds the requests that wait in this gateway: `most` in all, half of them for a version."""

    def __init__(self, events: GatewayEvents, most: int) -> None:
        self._events = events
        self._most = most
        self._waiting = 0
        self._numbers = itertools.count()
        events.watch_waiting(lambda: self._waiting)

    def waiter(
        self, queue: VersionQueue, tried: Sequence[ReplicaClient], deadline_s: float
    ) -> Waiter:
        """Make a waiter. A request that was sent before goes ahead of all that were not."""
        return Waiter(queue, (not tried, next(self._numbers)), tried, deadline_s)

    async def wait(self, waiter: Waiter) -> None:
        """Wait until it is admitted, or is a last resort as its time to wait is over.

        Raises NotReady beyond the bounds, and if the queue is closed.
        """
        queue = waiter.queue
        if queue.is_closed:
            raise _gone()
        with self.counted(queue):
            insort(queue.waiters, waiter, key=lambda one: one.key)
            try:
                queue.advance()
                if not waiter.is_admitted:
                    await waiter.wait_admitted()
            except TimeoutError:
                waiter.is_last_resort = True
            except BaseException:
                waiter.end()
                raise
            finally:
                with suppress(ValueError):
                    queue.waiters.remove(waiter)

    @contextmanager
    def counted(self, queue: VersionQueue) -> Iterator[None]:
        """Count a request as waiting. Raises NotReady if too many do, so that no dead model fills
        the gateway.
        """
        if self._waiting >= self._most or queue.waiting >= max(1, self._most // 2):
            raise NotReady(
                f'model "{queue.spec.name}" is not ready, and {queue.waiting} requests wait for it',
                retry_after_s=1,
            )
        began_s = monotonic()
        self._waiting += 1
        queue.waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            queue.waiting -= 1
            self._events.request_waited(queue.spec.name, monotonic() - began_s)


def _gone() -> NotReady:
    return NotReady("the version is no longer served", retry_after_s=1)
