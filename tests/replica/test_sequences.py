"""The order, the bounds and the end of sequences, on virtual time; each keeps a sum."""

import asyncio

import pytest
from tests.replica.sums import FIRST, LAST, NEXT, ONLY, Sums, on_virtual_time, outcomes

from headrace.errors import DeadlineExceeded, Overloaded, QuotaExceeded, SequenceUnknown
from headrace.replica.open_sequences import MAX_STEPS


@on_virtual_time
async def test_a_step_takes_up_where_the_one_before_it_left_off() -> None:
    async with (sums := Sums()).sequences:
        assert [await sums.step(1, FIRST), await sums.step(2), await sums.step(4, LAST)] == [
            1,
            3,
            7,
        ]


@on_virtual_time
async def test_a_sequence_is_unknown_before_it_starts_and_after_it_ends() -> None:
    async with (sums := Sums()).sequences:
        with pytest.raises(SequenceUnknown, match='sequence "a": expected sequence_start'):
            await sums.step(1, of='"a"')
        await sums.step(1, ONLY)
        assert await outcomes(sums.step(1), sums.step(1, LAST)) == [
            SequenceUnknown,
            SequenceUnknown,
        ]
        assert sums.sequences.open == 0


@on_virtual_time
async def test_a_start_begins_a_running_sequence_anew() -> None:
    async with (sums := Sums()).sequences:
        assert [await sums.step(1, FIRST), await sums.step(2, FIRST), await sums.step(3)] == [
            1,
            2,
            5,
        ]
        assert sums.sequences.open == 1


@on_virtual_time
async def test_steps_run_one_by_one_in_the_order_of_their_coming_however_long_each_takes() -> None:
    async with (sums := Sums()).sequences:
        steps = (sums.step(n, NEXT if n else FIRST, takes_s=10 - n) for n in range(10))
        assert await outcomes(*steps) == [0, 1, 3, 6, 10, 15, 21, 28, 36, 45]
        assert sums.ran == list(range(10))


@on_virtual_time
async def test_sequences_do_not_wait_for_each_other() -> None:
    loop = asyncio.get_running_loop()
    async with (sums := Sums()).sequences:
        await outcomes(*(sums.step(1, FIRST, of=str(n), takes_s=5) for n in range(50)))
        assert loop.time() == 5


@on_virtual_time
async def test_a_step_behind_the_end_is_unknown_unless_it_starts_anew() -> None:
    async with (sums := Sums()).sequences:
        steps = (sums.step(1, ONLY, takes_s=1), sums.step(2), sums.step(4, FIRST), sums.step(8))
        assert await outcomes(*steps) == [1, SequenceUnknown, 4, 12]


@on_virtual_time
async def test_a_failed_step_leaves_the_state_as_it_was_and_may_be_repeated() -> None:
    async with (sums := Sums()).sequences:
        await sums.step(1, FIRST)
        for kind in (NEXT, FIRST, LAST):
            assert await outcomes(sums.step(2, kind, fails=True)) == [ZeroDivisionError]
        assert await sums.step(2) == 3


@on_virtual_time
async def test_a_first_step_that_failed_opened_nothing() -> None:
    async with (sums := Sums()).sequences:
        assert await outcomes(sums.step(1, FIRST, fails=True), sums.step(2)) == [
            ZeroDivisionError,
            SequenceUnknown,
        ]
        assert sums.sequences.open == 0


@on_virtual_time
async def test_a_cancelled_step_leaves_the_state_as_it_was_and_lets_the_next_one_go() -> None:
    async with (sums := Sums()).sequences:
        await sums.step(1, FIRST)
        running, waiting, last = (asyncio.create_task(sums.step(n, takes_s=1)) for n in (2, 4, 8))
        await asyncio.sleep(0.5)
        waiting.cancel()
        running.cancel()
        assert await last == 9


@on_virtual_time
async def test_a_step_waits_for_its_turn_no_longer_than_its_deadline() -> None:
    loop = asyncio.get_running_loop()
    async with (sums := Sums()).sequences:
        slow = asyncio.create_task(sums.step(1, FIRST, takes_s=10))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceeded, match="waited for the one before it"):
            await sums.step(2, deadline_s=3)
        assert (loop.time(), await slow, await sums.step(4)) == (3, 1, 5)


@on_virtual_time
async def test_a_step_that_ran_past_its_deadline_did_not_count() -> None:
    """Its caller was told so, and repeats it."""
    async with (sums := Sums()).sequences:
        await sums.step(1, FIRST)
        assert await outcomes(sums.step(2, takes_s=5, deadline_s=4)) == [DeadlineExceeded]
        assert await sums.step(2) == 3


@on_virtual_time
async def test_the_line_of_a_sequence_is_bounded() -> None:
    async with (sums := Sums()).sequences:
        await sums.step(0, FIRST)
        ended = await outcomes(*(sums.step(1, takes_s=1) for _ in range(MAX_STEPS + 2)))
        assert ended == [*range(1, MAX_STEPS + 1), Overloaded, Overloaded]
        assert await sums.step(1) == MAX_STEPS + 1


@on_virtual_time
async def test_an_idle_sequence_expires_and_its_place_is_free() -> None:
    async with (sums := Sums(max_open=1, max_idle_s=60)).sequences:
        await sums.step(1, FIRST)
        await asyncio.sleep(59)
        await sums.step(2)
        await asyncio.sleep(59)
        assert (sums.sequences.open, sums.expired) == (1, 0)
        await asyncio.sleep(2)
        assert (sums.sequences.open, sums.expired) == (0, 1)
        with pytest.raises(SequenceUnknown):
            await sums.step(4)
        assert await sums.step(4, FIRST, of="2") == 4


@on_virtual_time
async def test_a_sequence_does_not_expire_while_a_step_of_it_is_here() -> None:
    async with (sums := Sums(max_idle_s=60)).sequences:
        await sums.step(1, FIRST)
        assert await sums.step(2, takes_s=1000) == 3
        assert sums.expired == 0


@on_virtual_time
async def test_each_sequence_expires_in_its_own_time() -> None:
    async with (sums := Sums(max_idle_s=60)).sequences:
        for n in range(5):
            await sums.step(1, FIRST, of=str(n))
            await asyncio.sleep(10)
        for open_still in (4, 3, 2, 1, 0):
            await asyncio.sleep(10.5 if open_still == 4 else 10)
            assert (sums.sequences.open, sums.expired) == (open_still, 5 - open_still)


@on_virtual_time
async def test_a_key_has_so_many_open_sequences_and_another_key_has_its_own() -> None:
    async with (sums := Sums(max_open=3)).sequences:
        for n in range(3):
            await sums.step(1, FIRST, of=str(n), key_id="ann")
        with pytest.raises(QuotaExceeded, match="at most 3 open sequences") as refused:
            await sums.step(1, FIRST, of="3", key_id="ann")
        assert refused.value.retry_after_s
        assert await sums.step(1, FIRST, of="3", key_id="bob") == 1
        assert await sums.step(1, FIRST, of="0", key_id="ann") == 1
        await sums.step(1, LAST, of="1", key_id="ann")
        assert await sums.step(1, FIRST, of="3", key_id="ann") == 1


@on_virtual_time
async def test_another_keys_sequence_is_unknown_and_one_of_the_same_name_is_another() -> None:
    async with (sums := Sums()).sequences:
        await sums.step(1, FIRST, key_id="ann")
        assert await outcomes(sums.step(2, key_id="bob")) == [SequenceUnknown]
        assert [await sums.step(5, FIRST, key_id="bob"), await sums.step(2, key_id="ann")] == [5, 3]


@on_virtual_time
async def test_what_is_left_sweeps_no_more() -> None:
    async with (sums := Sums()).sequences:
        await sums.step(1, FIRST)
        running = asyncio.create_task(sums.step(2, takes_s=1))
        await asyncio.sleep(0)
    assert await running == 3
    await asyncio.sleep(1000)
    assert sums.expired == 0


@on_virtual_time
async def test_whatever_fails_no_place_in_the_line_stays_taken() -> None:
    async with (sums := Sums()).sequences:
        for _ in range(3):
            steps = (
                sums.step(n, FIRST if n % 3 == 0 else NEXT, fails=n % 2 == 0, takes_s=1)
                for n in range(MAX_STEPS)
            )
            ended = await outcomes(*steps)
            assert Overloaded not in ended
