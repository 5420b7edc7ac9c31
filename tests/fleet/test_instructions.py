"""The queues of instructions: bounded, and every instruction gets a result."""

import asyncio

import pytest

from headrace.errors import (
    DeadlineExceeded,
    HeadraceError,
    Overloaded,
    ShuttingDown,
    StartFailed,
    Unavailable,
)
from headrace.fleet.instructions import MAX_WAITING, IndexEntry, Instruction, Instructions, Result

LOAD, INDEX = Instruction("load", "m"), Instruction("index")
READY = (IndexEntry("m", "1", "READY"),)


async def give(instructions: Instructions, instruction: Instruction) -> "asyncio.Task[Result]":
    task = asyncio.create_task(instructions.give(instruction, 60))
    await asyncio.sleep(0.001)
    return task


async def taken(instructions: Instructions, instruction: Instruction) -> Instruction:
    found = await instructions.take(instruction.queue, 1)
    assert found is not None
    return found


@pytest.fixture
async def instructions() -> Instructions:
    """With an operator that took from both queues just now."""
    instructions = Instructions()
    assert await instructions.take("index", 0.001) is None
    assert await instructions.take("change", 0.001) is None
    return instructions


async def test_an_instruction_gives_the_operators_result(instructions: Instructions) -> None:
    asked = await give(instructions, INDEX)
    instruction = await taken(instructions, INDEX)
    instructions.resolve(instruction.id, Result(READY))
    assert (await asked).entries() == READY


async def test_an_error_of_the_operator_is_the_senders(instructions: Instructions) -> None:
    asked = await give(instructions, LOAD)
    instruction = await taken(instructions, LOAD)
    instructions.resolve(instruction.id, Result.of(StartFailed("golden", 2.0)))
    with pytest.raises(StartFailed, match="golden") as raised:
        (await asked).entries()
    assert raised.value.retry_after_s == 2.0


async def test_an_operator_that_waits_is_woken_by_an_instruction(
    instructions: Instructions,
) -> None:
    taking = asyncio.create_task(instructions.take("change", 60))
    await give(instructions, LOAD)
    instruction = await taking
    assert instruction is not None
    assert (instruction.kind, instruction.model) == ("load", "m")


async def test_changes_are_taken_in_the_order_they_came(instructions: Instructions) -> None:
    names = ["a", "b", "c"]
    for name in names:
        await give(instructions, Instruction("load", name))
    assert [(await taken(instructions, LOAD)).model for _ in names] == names


async def test_the_index_does_not_wait_for_a_change(instructions: Instructions) -> None:
    await give(instructions, LOAD)
    await give(instructions, INDEX)
    assert (await taken(instructions, INDEX)).kind == "index"


async def test_one_instruction_too_many_is_refused_at_once(instructions: Instructions) -> None:
    for _ in range(MAX_WAITING):
        await give(instructions, LOAD)
    with pytest.raises(Overloaded):
        await instructions.give(LOAD, 60)
    await give(instructions, INDEX)


async def test_an_instruction_that_was_not_begun_in_time_is_withdrawn(
    instructions: Instructions,
) -> None:
    with pytest.raises(DeadlineExceeded, match="not begun"):
        await instructions.give(LOAD, 1)
    assert await instructions.take("change", 1) is None


async def test_an_instruction_that_still_runs_at_its_deadline_is_reported_so(
    instructions: Instructions,
) -> None:
    asked = await give(instructions, LOAD)
    instruction = await taken(instructions, LOAD)
    with pytest.raises(DeadlineExceeded, match="still running"):
        await asked
    instructions.resolve(instruction.id, Result())


async def test_a_sender_that_leaves_withdraws_its_instruction(instructions: Instructions) -> None:
    asked = await give(instructions, LOAD)
    asked.cancel()
    await asyncio.wait([asked])
    assert await instructions.take("change", 1) is None


async def test_without_an_operator_instructions_are_refused_at_once() -> None:
    with pytest.raises(Unavailable, match="expected an operator to take"):
        await Instructions().give(LOAD, 60)


async def test_a_silent_operator_counts_as_gone_but_a_busy_one_does_not(
    instructions: Instructions,
) -> None:
    await give(instructions, LOAD)
    instruction = await taken(instructions, LOAD)
    await asyncio.sleep(20)
    await give(instructions, LOAD)
    instructions.resolve(instruction.id, Result())
    with pytest.raises(Unavailable):
        await instructions.give(LOAD, 60)


async def test_closing_refuses_all_instructions_and_releases_the_operator(
    instructions: Instructions,
) -> None:
    running = await give(instructions, LOAD)
    instruction = await taken(instructions, LOAD)
    waiting = await give(instructions, LOAD)
    looking = asyncio.create_task(instructions.take("index", 60))
    await asyncio.sleep(0.001)
    await instructions.close()
    assert [type(await _error(task)) for task in (running, waiting)] == [ShuttingDown, ShuttingDown]
    assert await looking is None
    instructions.resolve(instruction.id, Result())
    with pytest.raises(Unavailable):
        await instructions.give(LOAD, 60)


async def _error(task: "asyncio.Task[Result]") -> HeadraceError:
    with pytest.raises(HeadraceError) as raised:
        (await task).entries()
    return raised.value
