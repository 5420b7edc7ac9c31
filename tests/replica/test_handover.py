"""Handed over sequences, on virtual time: no step is lost, repeated or overtaken."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from tests.replica.sums import FIRST, LAST, NEXT, ZERO, Sums, on_virtual_time, outcomes

from headrace.errors import QuotaExceeded, SequenceMoved, SequenceUnknown, ShuttingDown
from headrace.inference.sequences import SequenceKey, SequenceSnapshot
from headrace.inference.tensor import Array
from headrace.replica.handover import hand_over, take_over


@dataclass
class Successor:
    """Takes over what it is given, after a while, unless it refuses."""

    sums: Sums = field(default_factory=Sums)
    takes_s: float = 0.0
    refuses: bool = False
    offers: list[int] = field(default_factory=list)

    async def offer(self, snapshots: Sequence[SequenceSnapshot], taken: set[SequenceKey]) -> None:
        self.offers.append(len(snapshots))
        await asyncio.sleep(self.takes_s)
        if not self.refuses:
            taken.update(take_over(self.sums.sequences, ZERO, snapshots))


@on_virtual_time
async def test_a_successor_goes_on_where_the_source_stopped_and_the_source_says_that_it_moved() -> (
    None
):
    sums, successor = Sums(), Successor()
    await sums.step(1, FIRST)
    await sums.step(2, FIRST, of="2")
    await hand_over(sums.sequences, successor.offer)
    assert await outcomes(sums.step(4), sums.step(4, FIRST)) == [SequenceMoved, SequenceMoved]
    assert [await successor.sums.step(4), await successor.sums.step(8, of="2")] == [5, 10]
    assert (sums.sequences.open, successor.sums.sequences.open, sums.moved) == (0, 2, 2)


@on_virtual_time
async def test_steps_that_are_here_run_here_and_those_behind_end_in_their_order_as_moved() -> None:
    sums, successor = Sums(), Successor(takes_s=3)
    await sums.step(1, FIRST)
    here = [asyncio.create_task(sums.step(n, takes_s=5)) for n in (2, 4)]
    await asyncio.sleep(1)
    handover = asyncio.create_task(hand_over(sums.sequences, successor.offer))
    await asyncio.sleep(1)
    ended: list[asyncio.Task[float]] = []
    late = [asyncio.create_task(sums.step(8)) for _ in range(3)]
    for task in late:
        task.add_done_callback(ended.append)
    await handover
    assert [await step for step in here] == [3, 7]
    await asyncio.wait(late)
    assert ([type(task.exception()) for task in late], ended) == ([SequenceMoved] * 3, late)
    assert await successor.sums.step(8) == 15


@on_virtual_time
async def test_a_step_that_fails_before_the_move_and_one_after_it_leave_the_state_as_it_was() -> (
    None
):
    sums, successor = Sums(), Successor()
    await sums.step(1, FIRST)
    failing = asyncio.create_task(sums.step(2, takes_s=5, fails=True))
    await asyncio.sleep(0)
    await hand_over(sums.sequences, successor.offer)
    assert await outcomes(successor.sums.step(2, fails=True)) == [ZeroDivisionError]
    assert isinstance(failing.exception(), ZeroDivisionError)
    assert await successor.sums.step(4) == 5


@on_virtual_time
async def test_a_slow_sequence_holds_no_other_up() -> None:
    sums, successor = Sums(), Successor()
    for n in range(100):
        await sums.step(n, FIRST, of=str(n))
    slow = asyncio.create_task(sums.step(1, of="7", takes_s=50))
    await asyncio.sleep(0)
    handover = asyncio.create_task(hand_over(sums.sequences, successor.offer))
    await asyncio.sleep(1)
    assert successor.sums.sequences.open == 99
    await handover
    assert (await slow, await successor.sums.step(1, of="7"), successor.offers) == (
        8,
        9,
        [64, 35, 1],
    )


@on_virtual_time
async def test_nothing_starts_where_all_is_handed_over() -> None:
    sums, successor = Sums(), Successor()
    ending = asyncio.create_task(sums.step(1, (True, True), takes_s=5))
    await asyncio.sleep(0)
    handover = asyncio.create_task(hand_over(sums.sequences, successor.offer))
    await asyncio.sleep(1)
    steps = (sums.step(1, FIRST), sums.step(1, FIRST, of="2"), sums.step(1, of="3"))
    assert await outcomes(*steps) == [ShuttingDown, ShuttingDown, SequenceUnknown]
    await handover
    assert (await ending, successor.offers) == (1, [])
    snapshot = SequenceSnapshot(SequenceKey("", "9"), ZERO)
    assert take_over(sums.sequences, ZERO, [snapshot]) == []


@on_virtual_time
async def test_a_sequence_that_nobody_takes_stays_but_does_not_start_anew() -> None:
    sums, successor = Sums(), Successor(refuses=True)
    await sums.step(1, FIRST)
    await hand_over(sums.sequences, successor.offer)
    assert await outcomes(sums.step(2), sums.step(1, FIRST), sums.step(4)) == [3, ShuttingDown, 7]
    assert (await sums.step(1, LAST), sums.sequences.open, sums.moved) == (8, 0, 0)


@on_virtual_time
async def test_a_sequence_whose_handover_is_cut_short_stays() -> None:
    sums, successor = Sums(), Successor(takes_s=10)
    await sums.step(1, FIRST)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await hand_over(sums.sequences, successor.offer)
    assert await sums.step(2) == 3


@on_virtual_time
async def test_a_sequence_that_was_taken_over_expires_when_it_is_idle() -> None:
    sums = Sums()
    async with (successor := Successor(Sums(max_idle_s=60))).sums.sequences:
        await sums.step(1, FIRST)
        await hand_over(sums.sequences, successor.offer)
        await asyncio.sleep(59)
        assert successor.sums.sequences.open == 1
        await asyncio.sleep(2)
        assert (successor.sums.sequences.open, successor.sums.expired) == (0, 1)


@on_virtual_time
async def test_a_sequence_that_is_on_its_way_does_not_expire() -> None:
    successor = Successor(takes_s=100)
    async with (sums := Sums(max_idle_s=60)).sequences:
        await sums.step(1, FIRST)
        await hand_over(sums.sequences, successor.offer)
        assert (sums.expired, sums.sequences.open, successor.sums.sequences.open) == (0, 0, 1)


@on_virtual_time
async def test_the_keys_limit_does_not_hold_for_what_is_taken_over_but_for_what_starts() -> None:
    sums, successor = Sums(), Successor(Sums(max_open=2))
    for n in range(5):
        await sums.step(n, FIRST, of=str(n))
    await hand_over(sums.sequences, successor.offer)
    assert successor.sums.sequences.open == 5
    assert await outcomes(successor.sums.step(1, FIRST, of="new")) == [QuotaExceeded]


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"sum": np.zeros((1, 2))},
        {"sum": np.zeros((1, 1), np.float32)},
        {**ZERO, "more": np.zeros(1)},
    ],
)
def test_a_model_of_another_state_takes_nothing(other: dict[str, Array]) -> None:
    @on_virtual_time
    async def tries() -> None:
        sums, successor = Sums(), Successor(Sums(other))
        await sums.step(1, FIRST)
        await hand_over(sums.sequences, successor.offer)
        assert (sums.sequences.open, successor.sums.sequences.open) == (1, 0)

    tries()


@on_virtual_time
async def test_what_a_state_has_beyond_the_models_own_moves_too() -> None:
    rest = np.arange(7, dtype=np.int16)
    snapshot = SequenceSnapshot(SequenceKey("ann", "1"), {**ZERO, "rest": rest})
    sums, successor = Sums(), Sums()
    assert take_over(sums.sequences, ZERO, [snapshot]) == [snapshot.key]
    seen: list[SequenceSnapshot] = []

    async def offer(snapshots: Sequence[SequenceSnapshot], taken: set[SequenceKey]) -> None:
        seen.extend(snapshots)
        taken.update(take_over(successor.sequences, ZERO, snapshots))

    await hand_over(sums.sequences, offer)
    assert (seen[0].state["rest"] is rest, await successor.step(1, NEXT, key_id="ann")) == (True, 1)


@on_virtual_time
async def test_a_sequence_of_the_successors_own_is_not_replaced() -> None:
    sums, successor = Sums(), Successor()
    await sums.step(1, FIRST)
    await successor.sums.step(8, FIRST)
    await hand_over(sums.sequences, successor.offer)
    assert [await sums.step(1), await successor.sums.step(1)] == [2, 9]
