"""Every accepted item is resolved exactly once, whatever happens; and the yardstick."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from loadtests.support.virtual_time import run
from tests.batching.executors import Echo, make_batcher, submit

from headrace.batching import Batcher, Limits, Result
from headrace.errors import HeadraceError, InferenceFailed

LIMITS = Limits(max_rows=4, max_waiting_rows=8, max_waiting_bytes=64)


@dataclass(frozen=True)
class Arrival:
    """One caller: when it comes, what it brings, and when it leaves, if it does."""

    after_s: float
    rows: int
    nbytes: int
    patience_s: float
    leaves_after_s: float | None
    group: int


@dataclass(frozen=True)
class Run:
    """The behaviour of the executor for one batch."""

    seconds: float
    deed: str


steps = st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0])
arrivals = st.builds(
    Arrival,
    after_s=steps,
    rows=st.integers(1, 4),
    nbytes=st.integers(1, 40),
    patience_s=st.sampled_from([0.25, 0.5, 1.0, 3.0, 100.0]),
    leaves_after_s=st.none() | steps,
    group=st.integers(0, 1),
)
deeds = st.sampled_from(["answer", "answer", "answer", "raise", "ours", "poison one", "miscount"])
runs = st.builds(Run, seconds=steps, deed=deeds)


class Executor:
    """Does one deed of its script a batch, then answers for ever."""

    def __init__(self, script: Sequence[Run]) -> None:
        self._script = list(script)
        self.rows: list[int] = []
        self.served: list[int] = []
        self.groups: list[set[int]] = []

    async def __call__(self, payloads: Sequence[tuple[int, Arrival]]) -> Sequence[Any]:
        step = self._script.pop(0) if self._script else Run(0.5, "answer")
        self.rows.append(sum(arrival.rows for _, arrival in payloads))
        self.served.extend(number for number, _ in payloads)
        self.groups.append({arrival.group for _, arrival in payloads})
        await asyncio.sleep(step.seconds)
        return self._results(step.deed, [number for number, _ in payloads])

    def _results(self, deed: str, numbers: list[int]) -> Sequence[Any]:
        match deed:
            case "raise":
                raise ZeroDivisionError
            case "ours":
                raise InferenceFailed("poison")
            case "poison one":
                return [InferenceFailed("poison"), *numbers[1:]]
            case "miscount":
                return numbers[1:]
        return numbers


class Callers:
    """Asks as the arrivals say, and counts how each accepted item was resolved."""

    def __init__(self, batcher: Batcher[Any, Any], arrivals: Sequence[Arrival]) -> None:
        self._batcher = batcher
        self._arrivals = arrivals
        self.accepted: dict[int, asyncio.Future[Result[Any]]] = {}
        self.settled: dict[int, int] = {}

    async def arrive(self) -> None:
        loop = asyncio.get_running_loop()
        for number, arrival in enumerate(self._arrivals):
            await asyncio.sleep(arrival.after_s)
            try:
                future = self._batcher.submit(
                    (number, arrival),
                    rows=arrival.rows,
                    nbytes=arrival.nbytes,
                    deadline_s=loop.time() + arrival.patience_s,
                    group=arrival.group,
                )
            except HeadraceError:
                continue
            assert self._batcher.waiting_rows <= LIMITS.max_waiting_rows
            self.accepted[number] = future
            future.add_done_callback(partial(self._count, number))
            if arrival.leaves_after_s is not None:
                loop.call_later(arrival.leaves_after_s, future.cancel)

    def _count(self, number: int, _: object) -> None:
        self.settled[number] = self.settled.get(number, 0) + 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(arrivals, max_size=12), st.lists(runs, max_size=6), st.sampled_from(["drain", "leave"])
)
def test_every_accepted_item_is_resolved_exactly_once(
    arrivals: list[Arrival], script: list[Run], ending: str
) -> None:
    executor = Executor(script)

    async def program() -> Callers:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with make_batcher(executor, LIMITS) as batcher:
            callers = Callers(batcher, arrivals)
            await callers.arrive()
            if ending == "drain":
                await batcher.drain()
                assert (batcher.waiting_rows, batcher.running_rows) == (0, 0)
        await asyncio.sleep(0)
        return callers

    callers = run(program())
    assert callers.settled == dict.fromkeys(callers.accepted, 1)
    assert all(rows <= LIMITS.max_rows for rows in executor.rows)
    assert all(len(groups) == 1 for groups in executor.groups)
    assert len(executor.served) == len(set(executor.served))
    for number, future in callers.accepted.items():
        if not future.cancelled() and future.exception() is None:
            assert future.result().value == number


def test_the_yardstick_is_kept() -> None:
    """50 ms for any batch, at most 32 rows, 200 requests a second in open loop, nothing tuned."""
    latencies_s: list[float] = []

    async def program() -> float:
        loop = asyncio.get_running_loop()

        def took(began_s: float, _: object) -> None:
            latencies_s.append(loop.time() - began_s)

        async with make_batcher(Echo(0.05), Limits(max_rows=32)) as batcher:
            for _ in range(2000):
                began_s = loop.time()
                future = submit(batcher, None)
                future.add_done_callback(partial(took, began_s))
                await asyncio.sleep(1 / 200)
            await batcher.drain()
        return loop.time()

    took_s = run(program())
    assert len(latencies_s) / took_s >= 190
    assert sorted(latencies_s)[int(0.99 * len(latencies_s))] <= 0.110
