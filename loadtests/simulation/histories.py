"""Histories of a batcher before it is judged: noise, regimes and neighbours, on a virtual clock.

A trial is a closed loop of callers through a history and, when all is quiet again, a second of
grace and then the time that counts. The same quiet time with every fixed size tells what the best
one would have answered, by hindsight.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from random import Random
from typing import NamedTuple

from loadtests.support.virtual_time import run

from headrace.batching import Batcher, Limits
from headrace.errors import HeadraceError

__all__ = ["COSTS", "HISTORIES", "SIZES", "History", "Outcome", "best_fixed", "judge"]

CALLERS = 64
SPELL_S, BREAK_S, GRACE_S, COUNTED_S = 0.7, 0.3, 1.0, 1.0
SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64)
# Of every batch's time, also when all is quiet: nothing takes the same twice.
_QUIET_NOISE = 0.05

# Rows of a batch -> seconds.
Cost = Callable[[int], float]

COSTS: Mapping[str, Cost] = {
    "60 us and 25 us a row": lambda rows: 60e-6 + 25e-6 * rows,
    "4 ms and 0.5 ms a row": lambda rows: 4e-3 + 0.5e-3 * rows,
    "20 ms whatever the size": lambda _: 20e-3,
    "1 ms a row": lambda rows: 1e-3 * rows,
    "steps: 1 ms and 2 ms each 16 rows": lambda rows: 1e-3 + 2e-3 * ceil(rows / 16),
    "cliff: 0.1 ms a row, beyond 16 0.3 ms": lambda rows: (
        1e-4 + 1e-4 * rows + 2e-4 * max(0, rows - 16)
    ),
}


class Moment(NamedTuple):
    """A factor on a batch's time by rows, progress of the spell (0 to 1), and busy callers."""

    rows: int
    share: float
    preparing: int


# By which a batch's time is multiplied.
Noise = Callable[[Moment, Random], float]


def _lognormal(_: Moment, chance: Random) -> float:
    return chance.lognormvariate(0, 0.5)


def _neighbour(now: Moment, chance: Random) -> float:
    """Another program takes the cache or a core: large batches are slow at random."""
    return 3.0 if now.rows > 2 and chance.random() < 0.6 else 1.0


def _harsh_neighbour(now: Moment, chance: Random) -> float:
    return chance.uniform(5, 15) if now.rows > 1 and chance.random() < 0.9 else 1.0


def _pauses(_: Moment, chance: Random) -> float:
    return chance.uniform(5, 50) if chance.random() < 0.02 else 1.0


def _preprocessing(now: Moment, _: Random) -> float:
    """Callers who preprocess share the executor's core."""
    return 1.0 + min(now.preparing, 3)


def _slower_rows(now: Moment, _: Random) -> float:
    return 1.0 + 0.3 * now.rows


def _slower_start(now: Moment, _: Random) -> float:
    return 1.0 + 8.0 / now.rows


def _waves(now: Moment, chance: Random) -> float:
    return (1 + 4 * now.share) * chance.lognormvariate(0, 0.3)


@dataclass(frozen=True)
class History:
    """Spells of `noise` with `callers` each; it is quiet between and after them, with CALLERS."""

    noises: Sequence[Noise] = ()
    callers: Sequence[int] = ()
    prepare_s: float = 0.0


HISTORIES: Mapping[str, History] = {
    "quiet": History(),
    "log-normal": History([_lognormal] * 3),
    "neighbour": History([_neighbour] * 3),
    "harsh neighbour": History([_harsh_neighbour] * 3),
    "pauses": History([_pauses] * 3),
    "preprocessing": History([_preprocessing] * 3, prepare_s=0.002),
    "regimes": History([_slower_rows, _slower_start, _waves]),
    "1 and 64 callers": History([_lognormal, _neighbour] * 3, callers=[1, CALLERS] * 3),
}


@dataclass
class _Executor:
    """An executor that takes its time; `ran` holds the ends and rows of batches that count."""

    cost: Cost
    chance: Random
    noise: Noise | None = None
    spell: tuple[float, float] = (0.0, 1.0)
    preparing: int = 0
    ran: list[tuple[float, int]] = field(default_factory=list)

    async def __call__(self, payloads: Sequence[int]) -> Sequence[int]:
        rows = len(payloads)
        took_s = self.cost(rows) * self.chance.lognormvariate(0, _QUIET_NOISE)
        if self.noise is not None:
            began_s, lasts_s = self.spell
            share = min(1.0, (asyncio.get_running_loop().time() - began_s) / lasts_s)
            took_s *= self.noise(Moment(rows, share, self.preparing), self.chance)
        await asyncio.sleep(took_s)
        self.ran.append((asyncio.get_running_loop().time(), rows))
        return payloads

    def outcome(self, cells: float) -> "Outcome":
        """From the first batch's end to the last one's, so that no half batch counts."""
        rows = sum(rows for _, rows in self.ran[1:])
        return Outcome(rows / (self.ran[-1][0] - self.ran[0][0]), rows / (len(self.ran) - 1), cells)


class Outcome(NamedTuple):
    """Rows a second and rows of a batch once all was quiet, and the limit of rows at the end."""

    rate: float
    mean_rows: float
    cells: float


@dataclass
class _Callers:
    """A closed loop: each asks, waits for its answer, prepares the next request, and asks again."""

    batcher: Batcher[int, int]
    executor: _Executor
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    prepare_s: float = 0.0

    def become(self, count: int) -> None:
        while len(self.tasks) > count:
            self.tasks.pop().cancel()
        while len(self.tasks) < count:
            self.tasks.append(asyncio.create_task(self._ask()))

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self.prepare_s:
                self.executor.preparing += 1
                try:
                    await asyncio.sleep(self.prepare_s)
                finally:
                    self.executor.preparing -= 1
            try:
                await self.batcher.submit(0, rows=1, nbytes=1, deadline_s=loop.time() + 30)
            except HeadraceError:
                await asyncio.sleep(0.01)


def judge(
    cost: Cost, history: History, seed: int, max_rows: int = CALLERS, limits: Limits | None = None
) -> Outcome:
    """Judge the batcher after a history; `max_rows` of 1, 2, ... give the fixed sizes."""
    limits = limits or Limits(max_rows=max_rows)
    return run(_judge(cost, history, Random(seed), limits))  # noqa: S311 - the same noise for the same seed


async def _judge(cost: Cost, history: History, chance: Random, limits: Limits) -> Outcome:
    loop = asyncio.get_running_loop()
    executor = _Executor(cost, chance)
    batcher: Batcher[int, int] = Batcher(executor, limits, loop.time)
    for rows in (1, limits.max_rows):  # as a host's warm-up tells it
        batcher.cost.batch_ran(rows, rows, cost(rows), loop.time())
    async with batcher:
        callers = _Callers(batcher, executor)
        for n, noise in enumerate(history.noises):
            lasts_s = SPELL_S * chance.uniform(0.7, 1.3)
            executor.noise, executor.spell, callers.prepare_s = (
                noise,
                (loop.time(), lasts_s),
                history.prepare_s,
            )
            callers.become(history.callers[n] if history.callers else CALLERS)
            await asyncio.sleep(lasts_s)
            executor.noise, callers.prepare_s = None, 0.0
            await asyncio.sleep(BREAK_S * chance.uniform(0, 1))
        callers.become(CALLERS)
        executor.ran.clear()
        # A batch of the last spell may still run: it is no part of the second of grace.
        while not executor.ran:  # noqa: ASYNC110 - on virtual time
            await asyncio.sleep(0.01)
        await asyncio.sleep(GRACE_S)
        executor.ran.clear()
        await asyncio.sleep(COUNTED_S)
        outcome = executor.outcome(batcher.sizes.cells)
        callers.become(0)
    return outcome


def best_fixed(cost: Cost, sizes: Iterable[int] = SIZES, seed: int = 0) -> tuple[int, float]:
    """The fixed size that answers most rows a second when all is quiet, and how many."""
    rates = {size: judge(cost, HISTORIES["quiet"], seed, size).rate for size in sizes}
    best = max(rates, key=lambda size: rates[size])
    return best, rates[best]
