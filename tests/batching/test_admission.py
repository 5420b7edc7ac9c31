"""The batcher's refusals, by measured times, and its choices when there is too much."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from tests.batching.executors import Echo, make_batcher, submit

from headrace.batching import Batcher, Limits, Result
from headrace.errors import DeadlineExceeded, Overloaded


def now_s() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def taught(echo: Echo, limits: Limits) -> AsyncIterator[Batcher[Any, Any]]:
    """A batcher that has seen what its executor's batches take."""
    async with make_batcher(echo, limits) as batcher:
        for _ in range(10):
            await submit(batcher, "taught")
            await asyncio.gather(*(submit(batcher, "taught") for _ in range(limits.max_rows)))
        echo.batches.clear()
        yield batcher


async def test_what_waits_decides_whether_a_deadline_can_be_kept() -> None:
    """Batches of two take 1 s: of ten, six are done within 3.5 s, with some of it to spare."""
    async with taught(Echo(1.0), Limits(max_rows=2)) as batcher:
        asked = [submit(batcher, n, deadline_s=now_s() + 3.5) for n in range(6)]
        for _ in range(4):
            with pytest.raises(Overloaded, match="too many for the deadline") as refused:
                submit(batcher, "refused", deadline_s=now_s() + 3.5)
            assert refused.value.retry_after_s == pytest.approx(0.8, abs=0.2)
        assert [(await future).value for future in asked] == list(range(6))


async def test_time_between_batches_is_part_of_what_one_has_to_wait() -> None:
    async with taught(Echo(1.0), Limits(max_rows=2)) as batcher:
        asked = [submit(batcher, n) for n in range(4)]
        await asyncio.sleep(0)
        wait_s = batcher.wait_s()
        for _ in range(100):
            batcher.cost.gap_took(0.5)
        assert batcher.wait_s() == pytest.approx(wait_s + 0.5, rel=0.01)
        await asyncio.gather(*asked)


async def test_a_queue_that_is_full_to_its_deadlines_bears_a_pause() -> None:
    """Batches of two take 1 s, and one of them 1.5 s: nobody who was let in is late for it."""
    echo = Echo(1.0)
    async with taught(echo, Limits(max_rows=2)) as batcher:
        asked: list[asyncio.Future[Result[Any]]] = []
        with suppress(Overloaded):
            while True:
                asked.append(submit(batcher, len(asked), deadline_s=now_s() + 10.2))
        await asyncio.sleep(0)
        echo.seconds = 1.5
        await asyncio.sleep(2)
        echo.seconds = 1.0
        assert [(await future).value for future in asked] == list(range(len(asked)))


async def test_a_deadline_shorter_than_the_model_is_refused_at_once_as_that() -> None:
    async with taught(Echo(1.0), Limits(max_rows=2)) as batcher:
        with pytest.raises(
            DeadlineExceeded, match=r"takes about .* s, which is more than the request allows"
        ):
            submit(batcher, "hasty", deadline_s=now_s() + 0.5)


async def test_an_idle_model_is_asked_whatever_was_measured_long_ago() -> None:
    async with taught(Echo(1.0), Limits(max_rows=2)) as batcher:
        await asyncio.sleep(60)
        assert (await submit(batcher, "hasty", deadline_s=now_s() + 0.5)).value == "hasty"


async def test_what_cannot_finish_any_more_does_not_run() -> None:
    """The model became slow while it waited."""
    echo = Echo(0.1)
    async with taught(echo, Limits(max_rows=1)) as batcher:
        echo.seconds = 1.0
        first = submit(batcher, "slow", deadline_s=now_s() + 9)
        second = submit(batcher, "late", deadline_s=now_s() + 1.05)
        await first
        with pytest.raises(DeadlineExceeded):
            await second
    assert echo.batches == [["slow"]]


async def test_a_refusal_of_a_full_queue_says_when_there_will_be_room() -> None:
    async with taught(Echo(1.0), Limits(max_rows=2, max_waiting_rows=8)) as batcher:
        running = [submit(batcher, n) for n in range(8)]
        await asyncio.sleep(0)
        running += [submit(batcher, n) for n in range(2)]
        with pytest.raises(Overloaded, match=r"queue is full \(8 rows, ") as refused:
            submit(batcher, "one more")
        assert refused.value.retry_after_s == pytest.approx(5.0, abs=1.0)
        await asyncio.gather(*running)


async def test_a_key_who_floods_makes_room_for_one_who_does_not() -> None:
    async with taught(Echo(1.0), Limits(max_rows=2, max_waiting_rows=8)) as batcher:
        flood = [submit(batcher, n, key_id="a") for n in range(8)]
        other = submit(batcher, "other", key_id="b")
        outcomes = await asyncio.gather(*flood, return_exceptions=True)
        assert (await other).queue_s <= 1.0
        assert [isinstance(outcome, Overloaded) for outcome in outcomes] == [False] * 7 + [True]


async def test_a_higher_priority_takes_the_place_of_the_last_in_line() -> None:
    async with taught(Echo(1.0), Limits(max_rows=1, max_waiting_rows=2)) as batcher:
        running = submit(batcher, "running")
        await asyncio.sleep(0)
        low = [submit(batcher, n, priority=11) for n in range(2)]
        high = submit(batcher, "high", priority=1)
        outcomes = await asyncio.gather(*low, return_exceptions=True)
        assert [isinstance(outcome, Overloaded) for outcome in outcomes] == [False, True]
        assert (await high).value == "high"
        await running


async def test_lengths_that_wait_are_run_with_their_like() -> None:
    async def execute(lengths: Sequence[int]) -> Sequence[int]:
        batches.append(sorted(lengths))
        await asyncio.sleep(0.01 + 0.001 * len(lengths) * max(lengths))
        return lengths

    batches: list[list[int]] = []
    async with make_batcher(execute, Limits(max_rows=8)) as batcher:
        for length in (1, 200, 10, 50):
            await submit(batcher, length, length=length)
        batches.clear()
        settled = await asyncio.gather(
            *(submit(batcher, length, length=length) for length in (10, 200, 11, 190, 9, 210))
        )
    assert batches == [[9, 10, 11], [190, 200], [210]]
    assert max(s.padding for s in settled) < 0.2
    assert batcher.cost.base_s == pytest.approx(0.01, rel=0.3)


async def test_an_hour_without_work_is_no_time_between_batches() -> None:
    echo = Echo(1.0)
    async with taught(echo, Limits(max_rows=1)) as batcher:
        running = submit(batcher, "running")
        await asyncio.sleep(0)
        waiting = submit(batcher, "left")
        await asyncio.sleep(0.5)
        waiting.cancel()
        await running
        await asyncio.sleep(3600)
        await asyncio.gather(submit(batcher, "a"), submit(batcher, "b"))
    assert batcher.cost.gap_s < 1.0


async def test_nobody_is_dropped_for_one_who_finds_no_room_all_the_same() -> None:
    async with taught(Echo(1.0), Limits(max_rows=4, max_waiting_rows=4)) as batcher:
        running = [submit(batcher, n, rows=4) for n in range(1)]
        await asyncio.sleep(0)
        running += [submit(batcher, n, key_id="a") for n in range(4)]
        with pytest.raises(Overloaded):
            submit(batcher, "large", key_id="b", rows=3)
        assert not isinstance(
            (await asyncio.gather(*running, return_exceptions=True))[-1], Exception
        )
