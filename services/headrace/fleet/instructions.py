"""Instructions to the operator: what is asked, what came of it, and the bounded lines that orders wait in. No Ray."""

import asyncio
import itertools
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from headrace.errors import (
    DeadlineExceeded,
    HeadraceError,
    Overloaded,
    ShuttingDown,
    Unavailable,
    error_from,
)

__all__ = [
    "MAX_WAITING",
    "IndexEntry",
    "Instruction",
    "Instructions",
    "Lane",
    "Outcome",
]

MAX_WAITING = 16
# An operator that has not asked for orders this long is gone. It asks again after every order and every few seconds.
OPERATOR_LIFE_S = 15.0

Lane = Literal["look", "change"]
State = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]


@dataclass(frozen=True, slots=True)
class Instruction:
    """Load or unload a model, or list all. `id` is the directory's."""

    kind: Literal["index", "load", "unload"]
    model: str = ""
    id: int = 0

    @property
    def lane(self) -> Lane:
        """Changes wait for each other; a look at the index does not wait for changes."""
        return "look" if self.kind == "index" else "change"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A version of the repository or of the fleet. `reason` says why it is not ready, without paths."""

    name: str
    version: str
    state: State
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an order: the index, if that was asked for, or an error by its code."""

    index: tuple[IndexEntry, ...] = ()
    code: str = ""
    message: str = ""
    retry_after_s: float | None = None

    @classmethod
    def of(cls, error: HeadraceError) -> "Outcome":
        return cls((), error.code, error.message, error.retry_after_s)

    def entries(self) -> tuple[IndexEntry, ...]:
        """The index. Raises the error that the order ended with."""
        if self.code:
            raise error_from(self.code, self.message, self.retry_after_s)
        return self.index


@dataclass(eq=False, slots=True)
class _Queue:
    """One lane: orders that wait, and when the operator asked for one last."""

    waiting: "deque[tuple[Instruction, asyncio.Future[Outcome]]]"
    asked_s: float = float("-inf")
    is_asking: int = 0


class Instructions:
    """Where orders wait for the operator, and their senders for the outcome. Every order is settled."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._lines: Mapping[Lane, _Queue] = {"look": _Queue(deque()), "change": _Queue(deque())}
        self._taken: dict[int, asyncio.Future[Outcome]] = {}
        self._changed = asyncio.Condition()
        self._closings = 0

    async def give(self, order: Instruction, timeout_s: float) -> Outcome:
        """Wait for the outcome. Raises Unavailable without an operator, Overloaded at once, or DeadlineExceeded."""
        loop = asyncio.get_running_loop()
        line = self._lines[order.lane]
        if not line.is_asking and not self._taken and loop.time() - line.asked_s > OPERATOR_LIFE_S:
            raise Unavailable("nobody carries out orders now", retry_after_s=5)
        if len(line.waiting) >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} orders wait already", retry_after_s=5)
        order = replace(order, id=next(self._ids))
        outcome: asyncio.Future[Outcome] = loop.create_future()
        waiting = (order, outcome)
        line.waiting.append(waiting)
        await self._tell()
        try:
            async with asyncio.timeout(timeout_s):
                return await outcome
        except TimeoutError:
            begun = "goes on" if order.id in self._taken else "was not begun"
            raise DeadlineExceeded(f"the order {begun} after {timeout_s:g} s") from None
        finally:
            if waiting in line.waiting:
                line.waiting.remove(waiting)

    async def take(self, lane: Lane, timeout_s: float) -> Instruction | None:
        """The oldest order of a lane, when there is one; None when the time is up or the lines were closed."""
        line, closings = self._lines[lane], self._closings
        line.is_asking += 1
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: line.waiting or self._closings != closings)
        except TimeoutError:
            return None
        finally:
            line.is_asking -= 1
            line.asked_s = asyncio.get_running_loop().time()
        if not line.waiting or self._closings != closings:
            return None
        order, outcome = line.waiting.popleft()
        self._taken[order.id] = outcome
        return order

    def settle(self, order_id: int, outcome: Outcome) -> None:
        """Tell the sender, if it still waits."""
        future = self._taken.pop(order_id, None)
        if future and not future.done():
            future.set_result(outcome)

    async def close(self) -> None:
        """The operator ends: every order is refused now, and whoever waits to take one is let go."""
        self._closings += 1
        refused = Outcome.of(ShuttingDown("the platform is shutting down", retry_after_s=5))
        futures = [
            *self._taken.values(),
            *(f for line in self._lines.values() for _, f in line.waiting),
        ]
        self._taken.clear()
        for line in self._lines.values():
            line.waiting.clear()
            line.asked_s = float("-inf")
        for future in futures:
            if not future.done():
                future.set_result(refused)
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
