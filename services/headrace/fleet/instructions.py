"""Instructions to the operator, their results, and the bounded queues in which they wait.

No Ray.
"""

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
    "QueueName",
    "Result",
]

MAX_WAITING = 16
# An operator takes an instruction after each one and every few seconds; one that did not for this
# long is gone.
OPERATOR_LIFE_S = 15.0

QueueName = Literal["index", "change"]
State = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]


@dataclass(frozen=True, slots=True)
class Instruction:
    """Load or unload a model, or list all. The directory sets `id`."""

    kind: Literal["index", "load", "unload"]
    model: str = ""
    id: int = 0

    @property
    def queue(self) -> QueueName:
        """Changes wait for each other; the index does not wait for changes."""
        return "index" if self.kind == "index" else "change"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A version; `reason` says why it is not ready, without paths."""

    name: str
    version: str
    state: State
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an instruction: the index, if it asked for that, or an error by its code."""

    index: tuple[IndexEntry, ...] = ()
    code: str = ""
    message: str = ""
    retry_after_s: float | None = None

    @classmethod
    def of(cls, error: HeadraceError) -> "Result":
        return cls(code=error.code, message=error.message, retry_after_s=error.retry_after_s)

    def entries(self) -> tuple[IndexEntry, ...]:
        """The index. Raises the error that the instruction ended with."""
        if self.code:
            raise error_from(self.code, self.message, self.retry_after_s)
        return self.index


@dataclass(eq=False, slots=True)
class _Queue:
    """Instructions that wait, and the operator's last attempt to take one."""

    waiting: "deque[tuple[Instruction, asyncio.Future[Result]]]"
    taken_s: float = float("-inf")
    takers: int = 0


class Instructions:
    """The queues between those who give instructions and the operator.

    Every instruction gets a result.
    """

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._queues: Mapping[QueueName, _Queue] = {
            "index": _Queue(deque()),
            "change": _Queue(deque()),
        }
        self._running: dict[int, asyncio.Future[Result]] = {}
        self._changed = asyncio.Condition()
        self._closings = 0

    async def give(self, instruction: Instruction, timeout_s: float) -> Result:
        """Queue an instruction and wait for its result.

        Raises Unavailable without an operator, Overloaded if the queue is full, or
        DeadlineExceeded.
        """
        loop = asyncio.get_running_loop()
        queue = self._queues[instruction.queue]
        if not queue.takers and not self._running and loop.time() - queue.taken_s > OPERATOR_LIFE_S:
            raise Unavailable(
                "expected an operator to take the instruction, found none; "
                "try again when `headrace serve` is ready",
                retry_after_s=5,
            )
        if len(queue.waiting) >= MAX_WAITING:
            raise Overloaded(
                f"{MAX_WAITING} instructions are waiting already; try again later", retry_after_s=5
            )
        instruction = replace(instruction, id=next(self._ids))
        result: asyncio.Future[Result] = loop.create_future()
        waiting = (instruction, result)
        queue.waiting.append(waiting)
        await self._notify()
        try:
            async with asyncio.timeout(timeout_s):
                return await result
        except TimeoutError:
            state = "is still running" if instruction.id in self._running else "was not begun"
            raise DeadlineExceeded(f"the instruction {state} after {timeout_s:g} s") from None
        finally:
            if waiting in queue.waiting:
                queue.waiting.remove(waiting)

    async def take(self, name: QueueName, timeout_s: float) -> Instruction | None:
        """A queue's oldest instruction; None if time is up or the queues were closed."""
        queue = self._queues[name]
        closings = self._closings
        queue.takers += 1
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: queue.waiting or self._closings != closings)
        except TimeoutError:
            return None
        finally:
            queue.takers -= 1
            queue.taken_s = asyncio.get_running_loop().time()
        if not queue.waiting or self._closings != closings:
            return None
        instruction, result = queue.waiting.popleft()
        self._running[instruction.id] = result
        return instruction

    def resolve(self, instruction_id: int, result: Result) -> None:
        """Give the result to the sender, if it still waits."""
        future = self._running.pop(instruction_id, None)
        if future and not future.done():
            future.set_result(result)

    async def close(self) -> None:
        """Refuse every instruction that waits or runs, and release whoever waits to take one."""
        self._closings += 1
        refused = Result.of(ShuttingDown("the platform is shutting down", retry_after_s=5))
        futures = list(self._running.values())
        self._running.clear()
        for queue in self._queues.values():
            futures += [future for _, future in queue.waiting]
            queue.waiting.clear()
            queue.taken_s = float("-inf")
        for future in futures:
            if not future.done():
                future.set_result(refused)
        await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
