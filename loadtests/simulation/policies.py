"""Ways to form batches: the batcher as it is, the same told less, and a batcher with a timer."""

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol

from headrace.batching import Batcher, Limits
from headrace.errors import Overloaded

__all__ = ["EDGES", "SWEEPS", "Policy", "Queue", "Seen", "Sweep", "Timer", "policies", "sweep"]

# Lengths that are rounded up to one of these; longer ones to a multiple of the last.
EDGES = (1, 16, 32, 64, 128, 256)

Sweep = Literal["least-gain", "patience-s", "max-rows"]
# The values that are tried of each.
SWEEPS: Mapping[Sweep, Sequence[float]] = {
    "least-gain": (0.01, 0.04, 0.1, 0.2),
    "patience-s": (0.1, 0.3, 1.0, 3.0),
    "max-rows": (8, 16, 32, 64, 128),
}

Execute = Callable[[Sequence[int]], Awaitable[Sequence[int]]]


class Seen(NamedTuple):
    """A batch that ran, its rows all of one length."""

    rows: int
    length: int
    seconds: float


class Queue(Protocol):
    """A queue of requests, as the batcher is one. The payload is the request's length."""

    async def __aenter__(self) -> object: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    async def drain(self) -> None: ...
    def submit(
        self,
        payload: int,
        *,
        rows: int,
        nbytes: int,
        deadline_s: float,
        length: int = 1,
        group: Hashable = None,
        key_id: str = "",
    ) -> "asyncio.Future[Any]": ...  # the value does not count, only when it is resolved


_NONE = 1e-9


@dataclass(frozen=True)
class Policy:
    """A way to form batches. With `edges`, lengths are rounded up, and only equal ones share a
    batch.

    One that `is_blind` tells the batcher that all lengths are 1; one with `timer_s` uses no batcher
    but a Timer.
    """

    name: str
    limits: Limits = field(default_factory=Limits)
    edges: tuple[int, ...] = ()
    is_blind: bool = False
    timer_s: float | None = None

    def padded(self, length: int) -> int:
        """The length that the executor runs a batch at whose longest row has this one."""
        if not self.edges:
            return length
        index = bisect_left(self.edges, length)
        return (
            self.edges[index]
            if index < len(self.edges)
            else -(-length // self.edges[-1]) * self.edges[-1]
        )

    def told(self, length: int) -> tuple[int, Hashable]:
        """The length and the group that the line is told."""
        if self.is_blind:
            return 1, None
        return self.padded(length), self.padded(length) if self.edges else None

    def line(
        self, execute: Execute, clock: Callable[[], float], seen: Iterable[Seen] = ()
    ) -> Queue:
        """Make a queue that knows the batches `seen` before, as a warmed-up host does."""
        if self.timer_s is not None:
            return Timer(execute, self.limits, self.timer_s)
        batcher: Batcher[int, int] = Batcher(execute, self.limits, clock)
        for rows, length, seconds in seen:
            cells = rows * self.told(length)[0]
            batcher.cost.batch_ran(cells, cells, seconds, clock())
        return batcher


class Timer:
    """Batches as Ray Serve's `@serve.batch` forms them: sealed when full, or so long after their
    first request.

    The timer runs while the executor is busy, too; what is sealed waits in order. It knows
    neither deadlines nor lengths, and refuses what the batcher would for want of room.
    """

    def __init__(self, execute: Execute, limits: Limits, timer_s: float) -> None:
        self._execute = execute
        self._limits = limits
        self._timer_s = timer_s
        self._waiting: asyncio.Queue[_Asked] = asyncio.Queue(limits.max_waiting_rows)
        self._sealed: asyncio.Queue[list[_Asked]] = asyncio.Queue(limits.max_waiting_rows)
        self._waiting_rows = 0
        self._unanswered: set[asyncio.Future[int]] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Timer":
        self._tasks = [asyncio.create_task(self._seal()), asyncio.create_task(self._run())]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drain(self) -> None:
        if self._unanswered:
            await asyncio.wait(self._unanswered)

    def submit(self, payload: int, **_: object) -> "asyncio.Future[int]":
        """Join the line; it listens to nothing else that one is told of a request."""
        if self._waiting_rows >= self._limits.max_waiting_rows:
            raise Overloaded(
                f"{self._waiting_rows} rows wait already, at most {self._limits.max_waiting_rows}",
                1.0,
            )
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._unanswered.add(answer)
        answer.add_done_callback(self._unanswered.discard)
        self._waiting_rows += 1
        self._waiting.put_nowait(_Asked(payload, answer))
        return answer

    async def _seal(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timer_s):
                    while len(batch) < self._limits.max_rows:
                        batch.append(await self._waiting.get())
            self._sealed.put_nowait(batch)

    async def _run(self) -> None:
        while True:
            batch = await self._sealed.get()
            self._waiting_rows -= len(batch)
            await self._execute([asked.length for asked in batch])
            for asked in batch:
                asked.answer.set_result(asked.length)


class _Asked(NamedTuple):
    length: int
    answer: "asyncio.Future[int]"


def policies(limits: Limits, timer_s: float) -> dict[str, Policy]:
    """Those to compare, by name, each within the same limits."""
    return {
        "headrace": Policy("headrace", limits),
        # Whoever comes, as many as there is room for: no measured speed ends its batches.
        "first-come": Policy("first-come", replace(limits, least_gain=_NONE), is_blind=True),
        "timer": Policy("timer", limits, timer_s=timer_s),
        "buckets": Policy("buckets", limits, edges=EDGES),
    }


def sweep(name: Sweep, limits: Limits) -> dict[str, Policy]:
    """The batcher as it is with each of some values of one of its limits."""
    found = {}
    for value in SWEEPS[name]:
        label = f"{name}={value:g}"
        # A float or an int, as the field is.
        changed: dict[str, Any] = {name.replace("-", "_"): value}
        found[label] = Policy(label, replace(limits, **changed))
    return found
