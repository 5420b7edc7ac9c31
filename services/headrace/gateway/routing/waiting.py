"""Requests that wait for a replica of their model: first come, first served, bounded, each for a share of its time.

While a replica is suspect, connected to, restarted or replaced, whoever has time left waits for it. When one is ready
they go to it in groups that fill its next batches, and twice as many as are answered follow, so that a replica that
has just started is not buried, and the line ends whatever still comes.
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

__all__ = ["Line", "Turn", "WaitQueue", "until_s"]

# Of the time that is left: the rest is for running.
_SHARE = 2 / 3
# What one ready replica is given at a time of those that waited, in batches.
_BATCHES = 2


def until_s(deadline_s: float) -> float:
    """Until when to wait for a replica, from now on."""
    now_s = monotonic()
    return now_s + _SHARE * max(0.0, deadline_s - now_s)


class Turn:
    """A request's place in its version's line, and once it may go, its leave to: held until it is settled."""

    __slots__ = ("_gate", "holds_leave", "is_last_resort", "key", "line", "tried", "until_s")

    def __init__(
        self, line: "Line", key: tuple[bool, int], tried: Sequence[ReplicaClient], deadline_s: float
    ) -> None:
        self.line = line
        self.key = key
        self.tried = tried
        self.until_s = until_s(deadline_s)
        self.holds_leave = False
        self.is_last_resort = False  # nobody became ready while it waited
        self._gate: asyncio.Future[None] | None = None

    def can_go(self) -> bool:
        return any(r.is_ready and r not in self.tried for r in self.line.replicas.values())

    def open(self) -> None:
        self.holds_leave = True
        self._settle(None)

    def refuse(self, error: HeadraceError) -> None:
        self._settle(error)

    def end(self) -> None:
        """Give the leave to who comes next."""
        if self.holds_leave:
            self.holds_leave = False
            self.line.ended()

    async def pass_gate(self) -> None:
        """Wait for the leave. Raises TimeoutError when patience ends, and what the turn is refused with."""
        self._gate = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(self.until_s - monotonic()):
            await self._gate

    def _settle(self, error: HeadraceError | None) -> None:
        if self._gate is None or self._gate.done():
            return
        if error is None:
            self._gate.set_result(None)
        else:
            self._gate.set_exception(error)


@dataclass(eq=False, slots=True)
class Line:
    """Those that wait for `replicas`, by the order of their coming; `gone` have been let go and are not settled."""

    spec: ModelSpec
    replicas: dict[str, ReplicaClient]
    waiting: list[Turn] = field(default_factory=list)
    held: int = 0  # all that wait, steps of sequences too
    gone: int = 0
    answered: int = 0  # of those that have been let go since somebody was ready
    is_closed: bool = False

    def advance(self) -> None:
        """Let go who may: something has changed."""
        ready = sum(r.is_ready for r in self.replicas.values())
        if not ready or not self.waiting:
            self.answered = 0
            return
        batch = self.spec.batching.max_rows if self.spec.is_batched else 1
        places = _BATCHES * batch * ready + self.answered - self.gone
        for turn in self.waiting[:]:
            if places <= 0:
                return
            if turn.can_go():
                self.waiting.remove(turn)
                self.gone += 1
                places -= 1
                turn.open()

    def ended(self) -> None:
        """One that was let go is settled: it makes room for two."""
        self.gone -= 1
        self.answered += 1
        self.advance()

    def refuse(self, error: Callable[[], HeadraceError]) -> None:
        """All that wait are told that it is in vain."""
        for turn in self.waiting:
            turn.refuse(error())

    def close(self) -> None:
        """Its version is gone for good: nobody waits here any more, nor ever will."""
        self.is_closed = True
        self.refuse(_gone)


class WaitQueue:
    """Who waits in this gateway: at most `most` in all, and half of them for one version."""

    def __init__(self, events: GatewayEvents, most: int) -> None:
        self._events = events
        self._most = most
        self._held = 0
        self._numbers = itertools.count()
        events.watch_waiting(lambda: self._held)

    def turn(self, line: Line, tried: Sequence[ReplicaClient], deadline_s: float) -> Turn:
        """A place in the line. One that was lost with its replica came before all that have not been asked."""
        return Turn(line, (not tried, next(self._numbers)), tried, deadline_s)

    async def wait(self, turn: Turn) -> None:
        """Wait for leave, or until patience ends: then the turn is a last resort.

        Raises NotReady beyond the bounds, and in a line that is closed.
        """
        line = turn.line
        if line.is_closed:
            raise _gone()
        with self.holding(line):
            insort(line.waiting, turn, key=lambda one: one.key)
            try:
                line.advance()
                if not turn.holds_leave:
                    await turn.pass_gate()
            except TimeoutError:
                turn.is_last_resort = True
            except BaseException:
                turn.end()
                raise
            finally:
                with suppress(ValueError):
                    line.waiting.remove(turn)

    @contextmanager
    def holding(self, line: Line) -> Iterator[None]:
        """Count one that waits. Raises NotReady if too many do: a dead model must not fill the gateway."""
        if self._held >= self._most or line.held >= max(1, self._most // 2):
            raise NotReady(
                f'model "{line.spec.name}" is not ready, and {line.held} requests wait for it', 1
            )
        began_s = monotonic()
        self._held += 1
        line.held += 1
        try:
            yield
        finally:
            self._held -= 1
            line.held -= 1
            self._events.request_waited(line.spec.name, monotonic() - began_s)


def _gone() -> NotReady:
    return NotReady("the version is not served any more", retry_after_s=1)
