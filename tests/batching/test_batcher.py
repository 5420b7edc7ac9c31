import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from tests.batching.executors import Echo, make_batcher, submit

from headrace.batching import Batcher, Limits
from headrace.errors import DeadlineExceeded, InferenceFailed, Overloaded, ShuttingDown


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def outcome(future: "asyncio.Future[Any]") -> object:
    """An item's result, or the error that it was settled with."""
    try:
        return (await future).value
    except Exception as error:
        return error


async def test_a_batch_leaves_at_once_when_the_executor_is_idle() -> None:
    echo = Echo()
    async with make_batcher(echo) as batcher:
        settled = await submit(batcher, "a")
    assert (echo.started_s, settled.queue_s, settled.compute_s, settled.batch_rows) == (
        [0.0],
        0.0,
        1.0,
        1,
    )


async def test_arrivals_during_a_run_leave_as_one_batch() -> None:
    echo = Echo()
    async with make_batcher(echo) as batcher:
        first = submit(batcher, "a")
        await asyncio.sleep(0.25)
        later = [submit(batcher, name) for name in "bcd"]
        await asyncio.gather(first, *later)
    assert echo.batches == [["a"], ["b", "c", "d"]]
    assert [(f.result().queue_s, f.result().batch_rows) for f in later] == [(0.75, 3)] * 3


async def test_a_batch_has_no_more_rows_than_its_limit() -> None:
    echo = Echo()
    async with make_batcher(echo, Limits(max_rows=4)) as batcher:
        await asyncio.gather(*(submit(batcher, rows, rows=rows) for rows in (1, 3, 2, 2, 4)))
    assert echo.batches == [[1, 3], [2, 2], [4]]


async def test_groups_share_no_batch_and_none_starves() -> None:
    echo = Echo()
    async with make_batcher(echo) as batcher:
        await asyncio.gather(*(submit(batcher, name, group=name) for name in "abab"))
    assert echo.batches == [["a", "a"], ["b", "b"]]


async def test_a_higher_priority_goes_first_and_those_of_one_keep_their_order() -> None:
    echo = Echo()
    async with make_batcher(echo, Limits(max_rows=1)) as batcher:
        wanted = {"running": 0, "low": 11, "default": 0, "high": 1, "high again": 1}
        await asyncio.gather(
            *(submit(batcher, name, priority=priority) for name, priority in wanted.items())
        )
    assert [name for (name,) in echo.batches] == ["high", "high again", "running", "default", "low"]


async def test_what_waited_long_enough_is_overtaken_no_more() -> None:
    """Ten levels are ten seconds: an old item of the lowest priority leaves before a high one."""
    echo = Echo(seconds=12.0)
    async with make_batcher(echo, Limits(max_rows=1)) as batcher:
        asked = [submit(batcher, "running", priority=1)]
        await asyncio.sleep(0.5)
        asked.append(submit(batcher, "low", priority=11))
        await asyncio.sleep(11.0)
        asked.append(submit(batcher, "high", priority=1))
        await asyncio.gather(*asked)
    assert echo.batches == [["running"], ["low"], ["high"]]


async def test_each_item_gets_its_own_result() -> None:
    async with make_batcher(Echo()) as batcher:
        settled = await asyncio.gather(*(submit(batcher, name) for name in "abcdefghij"))
    assert "".join(s.value for s in settled) == "abcdefghij"


async def test_as_many_batches_run_at_once_as_the_limit_says() -> None:
    echo = Echo()
    async with make_batcher(echo, Limits(max_rows=1, max_running=2)) as batcher:
        await asyncio.gather(*(submit(batcher, name) for name in "abcd"))
    assert echo.started_s == [0.0, 0.0, 1.0, 1.0]


async def test_a_queue_full_of_rows_refuses_at_once() -> None:
    async with make_batcher(Echo(), Limits(max_rows=4, max_waiting_rows=4)) as batcher:
        accepted = [submit(batcher, "running", rows=4)]
        await asyncio.sleep(0)
        accepted += [submit(batcher, "waiting", rows=3)]
        with pytest.raises(Overloaded, match=r"queue is full \(3 rows, .*; at most 4 rows, "):
            submit(batcher, "refused", rows=2)
        accepted += [submit(batcher, "fits", rows=1)]
        assert batcher.waiting_rows == 4
        await asyncio.gather(*accepted)
    assert batcher.waiting_rows == 0


async def test_a_queue_full_of_bytes_refuses_at_once() -> None:
    async with make_batcher(Echo(), Limits(max_waiting_bytes=100)) as batcher:
        accepted = submit(batcher, "a", nbytes=99)
        with pytest.raises(Overloaded):
            submit(batcher, "b", nbytes=2)
        await accepted


async def test_more_rows_than_a_batch_has_are_refused_by_name() -> None:
    async with make_batcher(Echo(), Limits(max_rows=4)) as batcher:
        with pytest.raises(ValueError, match="at most max_rows=4 rows, not 5"):
            submit(batcher, "a", rows=5)


async def test_an_item_past_its_deadline_is_not_accepted() -> None:
    async with make_batcher(Echo()) as batcher:
        await asyncio.sleep(1)
        with pytest.raises(DeadlineExceeded):
            submit(batcher, "late", deadline_s=1.0)
        assert batcher.waiting_rows == 0


async def test_waiting_items_fail_at_their_deadlines_though_the_executor_is_stuck() -> None:
    async with make_batcher(Echo(seconds=1e9)) as batcher:
        submit(batcher, "stuck")
        await asyncio.sleep(0)
        failed_s: dict[float, float] = {}

        def failed(due: float, _: object) -> None:
            failed_s[due] = now_s()

        waiting = [submit(batcher, "x", deadline_s=due) for due in (3.0, 1.0, 2.0)]
        for due, future in zip((3.0, 1.0, 2.0), waiting, strict=True):
            future.add_done_callback(partial(failed, due))
        assert [type(await outcome(f)) for f in waiting] == [DeadlineExceeded] * 3
        assert failed_s == {1.0: 1.0, 2.0: 2.0, 3.0: 3.0}
        assert batcher.waiting_rows == 0


async def test_an_expired_item_never_reaches_the_executor() -> None:
    echo = Echo()
    async with make_batcher(echo) as batcher:
        submit(batcher, "a")
        await asyncio.sleep(0)
        await outcome(submit(batcher, "b", deadline_s=0.5))
        await asyncio.sleep(3)
    assert echo.batches == [["a"]]


async def test_an_item_whose_deadline_passed_while_the_loop_was_blocked_does_not_run() -> None:
    """A batch that runs on the loop keeps timers from firing: the queue must look at the clock."""
    clock = [0.0]
    batches: list[list[str]] = []

    async def blocking(payloads: Sequence[str]) -> Sequence[str]:
        batches.append(list(payloads))
        clock[0] += 1.0
        return payloads

    async with Batcher(blocking, Limits(max_rows=1), clock=lambda: clock[0]) as batcher:
        first = batcher.submit("a", rows=1, nbytes=1, deadline_s=0.4)
        second = batcher.submit("b", rows=1, nbytes=1, deadline_s=0.5)
        await first
        assert isinstance(await outcome(second), DeadlineExceeded)
    assert batches == [["a"]]


async def test_a_cancelled_item_leaves_the_queue_and_frees_its_room() -> None:
    echo = Echo()
    async with make_batcher(echo, Limits(max_rows=2, max_waiting_rows=2)) as batcher:
        running = submit(batcher, "a")
        await asyncio.sleep(0)
        waiting = submit(batcher, "b", rows=2)
        waiting.cancel()
        await asyncio.sleep(0)
        assert batcher.waiting_rows == 0
        await asyncio.gather(running, submit(batcher, "c", rows=2))
    assert echo.batches == [["a"], ["c"]]


async def test_an_item_cancelled_just_before_the_batch_leaves_does_not_run() -> None:
    echo = Echo()
    async with make_batcher(echo) as batcher:
        submit(batcher, "left").cancel()
        await submit(batcher, "stays")
    assert echo.batches == [["stays"]]


async def test_a_cancelled_caller_does_not_harm_its_batch() -> None:
    echo = Echo()
    async with make_batcher(echo) as batcher:
        futures = [submit(batcher, name) for name in "abc"]
        await asyncio.sleep(0.5)
        futures[1].cancel()
        assert [(await futures[i]).value for i in (0, 2)] == ["a", "c"]
    assert echo.batches == [["a", "b", "c"]]


async def test_an_exception_among_the_results_fails_only_its_own_item() -> None:
    async def one_poisoned(payloads: Sequence[str]) -> Sequence[str | Exception]:
        return [ValueError(p) if p == "poison" else p for p in payloads]

    async with make_batcher(one_poisoned) as batcher:
        outcomes = await asyncio.gather(
            *(outcome(submit(batcher, p)) for p in ("a", "poison", "b"))
        )
    assert [outcomes[0], outcomes[2]] == ["a", "b"]
    assert isinstance(outcomes[1], ValueError)


async def test_an_exception_no_future_takes_still_settles_its_item_and_the_next() -> None:
    async def stops(payloads: Sequence[str]) -> Sequence[str | Exception]:
        return [StopIteration() if p == "poison" else p for p in payloads]

    async with make_batcher(stops) as batcher:
        assert isinstance(
            await outcome(submit(batcher, "poison", deadline_s=5.0)), InferenceFailed | RuntimeError
        )
        assert await outcome(submit(batcher, "a", deadline_s=5.0)) == "a"


class FailsOnce:
    """Fails the first batch with what it is given, and echoes those after it."""

    def __init__(self, failure: BaseException) -> None:
        self.failure: BaseException | None = failure

    async def __call__(self, payloads: Sequence[str]) -> Sequence[str]:
        failure, self.failure = self.failure, None
        if failure:
            raise failure
        return payloads


async def test_an_executor_that_raises_fails_its_batch_and_the_batcher_lives_on() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with make_batcher(FailsOnce(ZeroDivisionError("inside"))) as batcher:
        outcomes = await asyncio.gather(*(outcome(submit(batcher, p)) for p in "ab"))
        assert [(type(o), str(o)) for o in outcomes] == [
            (InferenceFailed, "the model failed on this batch")
        ] * 2
        assert await outcome(submit(batcher, "c")) == "c"
    assert [type(context["exception"]) for context in told] == [ZeroDivisionError]


async def test_an_error_of_ours_reaches_the_callers_as_it_is() -> None:
    async with make_batcher(FailsOnce(Overloaded("no room on the device", 2))) as batcher:
        failed = await outcome(submit(batcher, "a"))
        assert (type(failed), str(failed)) == (Overloaded, "no room on the device")
        assert await outcome(submit(batcher, "b")) == "b"


async def test_an_executor_cancelled_from_inside_fails_its_batch_and_the_batcher_lives_on() -> None:
    async with make_batcher(FailsOnce(asyncio.CancelledError())) as batcher:
        assert isinstance(await outcome(submit(batcher, "a", deadline_s=5.0)), Exception)
        assert await outcome(submit(batcher, "b", deadline_s=5.0)) == "b"


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_wrong_number_of_results_fails_the_batch(count: int) -> None:
    async def miscounts(payloads: Sequence[str]) -> Sequence[str]:
        return ["?"] * count if len(payloads) == 2 else payloads

    async with make_batcher(miscounts) as batcher:
        outcomes = await asyncio.gather(*(outcome(submit(batcher, p)) for p in "ab"))
        assert [str(o) for o in outcomes] == [
            f"the executor: expected 2 results, found {count}"
        ] * 2
        assert await outcome(submit(batcher, "c")) == "c"


async def test_an_executor_that_never_awaits_lets_the_loop_turn_between_batches() -> None:
    """Otherwise no answer, ping or deadline is served until the queue is empty."""
    turns = 0
    turns_seen: list[int] = []

    async def inline(payloads: Sequence[str]) -> Sequence[str]:
        turns_seen.append(turns)
        return payloads

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(turn)

    async with make_batcher(inline, Limits(max_rows=1)) as batcher:
        asyncio.get_running_loop().call_soon(turn)
        await asyncio.gather(*(submit(batcher, name) for name in "abc"))
    assert len(set(turns_seen)) == 3


async def test_drain_settles_what_was_accepted_and_refuses_the_rest() -> None:
    async with make_batcher(Echo(), Limits(max_rows=1)) as batcher:
        accepted = [submit(batcher, name) for name in "abc"]
        draining = asyncio.create_task(batcher.drain())
        await asyncio.sleep(0)
        with pytest.raises(ShuttingDown):
            submit(batcher, "late")
        await draining
        assert all(future.done() for future in accepted)
        assert [f.result().value for f in accepted] == ["a", "b", "c"]
        assert now_s() == 3.0


async def test_an_idle_batcher_drains_at_once() -> None:
    async with make_batcher(Echo()) as batcher:
        await submit(batcher, "a")
        await batcher.drain()
        assert now_s() == 1.0


async def test_drain_waits_for_a_batch_whose_callers_all_left() -> None:
    async with make_batcher(Echo()) as batcher:
        left = submit(batcher, "a")
        await asyncio.sleep(0.5)
        left.cancel()
        await batcher.drain()
        assert now_s() == 1.0


async def test_drain_ends_when_all_that_waits_expires() -> None:
    async with make_batcher(Echo(seconds=5), Limits(max_rows=1)) as batcher:
        submit(batcher, "a")
        waiting = submit(batcher, "b", deadline_s=1.0)
        await batcher.drain()
        assert isinstance(waiting.exception(), DeadlineExceeded)
        assert now_s() == 5.0


async def test_leaving_settles_what_runs_and_what_waits() -> None:
    async with make_batcher(Echo(seconds=1e9)) as batcher:
        running = submit(batcher, "a", rows=4)
        await asyncio.sleep(1)
        waiting = submit(batcher, "b")
    assert [type(future.exception()) for future in (running, waiting)] == [ShuttingDown] * 2
    with pytest.raises(ShuttingDown):
        submit(batcher, "late")


async def test_leaving_ends_a_drain_that_waits_for_a_stuck_executor() -> None:
    async with make_batcher(Echo(seconds=1e9)) as batcher:
        left = submit(batcher, "a")
        await asyncio.sleep(1)
        left.cancel()
        draining = asyncio.create_task(batcher.drain())
        await asyncio.sleep(1)
    async with asyncio.timeout(1):
        await draining
