"""The lines that orders wait in: bounded, and every order is settled."""

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
from headrace.fleet.instructions import MAX_WAITING, IndexEntry, Instruction, Instructions, Outcome

LOAD, INDEX = Instruction("load", "m"), Instruction("index")
READY = (IndexEntry("m", "1", "READY"),)


async def give(orders: Instructions, order: Instruction) -> "asyncio.Task[Outcome]":
    task = asyncio.create_task(orders.give(order, 60))
    await asyncio.sleep(0.001)
    return task


async def taken(orders: Instructions, order: Instruction) -> Instruction:
    found = await orders.take(order.lane, 1)
    assert found is not None
    return found


@pytest.fixture
async def orders() -> Instructions:
    """With an operator that has asked just now."""
    orders = Instructions()
    assert await orders.take("look", 0.001) is None
    assert await orders.take("change", 0.001) is None
    return orders


async def test_an_order_gives_what_the_operator_made_of_it(orders: Instructions) -> None:
    asked = await give(orders, INDEX)
    order = await taken(orders, INDEX)
    orders.settle(order.id, Outcome(READY))
    assert (await asked).entries() == READY


async def test_an_error_of_the_operator_is_the_senders(orders: Instructions) -> None:
    asked = await give(orders, LOAD)
    order = await taken(orders, LOAD)
    orders.settle(order.id, Outcome.of(StartFailed("golden", 2.0)))
    with pytest.raises(StartFailed, match="golden") as raised:
        (await asked).entries()
    assert raised.value.retry_after_s == 2.0


async def test_an_operator_that_waits_is_woken_by_an_order(orders: Instructions) -> None:
    taking = asyncio.create_task(orders.take("change", 60))
    await give(orders, LOAD)
    order = await taking
    assert order is not None
    assert (order.kind, order.model) == ("load", "m")


async def test_changes_are_taken_in_the_order_they_came(orders: Instructions) -> None:
    names = ["a", "b", "c"]
    for name in names:
        await give(orders, Instruction("load", name))
    assert [(await taken(orders, LOAD)).model for _ in names] == names


async def test_the_index_does_not_wait_for_a_change(orders: Instructions) -> None:
    await give(orders, LOAD)
    await give(orders, INDEX)
    assert (await taken(orders, INDEX)).kind == "index"


async def test_one_order_too_many_is_refused_at_once(orders: Instructions) -> None:
    for _ in range(MAX_WAITING):
        await give(orders, LOAD)
    with pytest.raises(Overloaded):
        await orders.give(LOAD, 60)
    await give(orders, INDEX)


async def test_an_order_that_was_not_begun_in_time_is_withdrawn(orders: Instructions) -> None:
    with pytest.raises(DeadlineExceeded, match="not begun"):
        await orders.give(LOAD, 1)
    assert await orders.take("change", 1) is None


async def test_an_order_that_goes_on_is_said_to(orders: Instructions) -> None:
    asked = await give(orders, LOAD)
    order = await taken(orders, LOAD)
    with pytest.raises(DeadlineExceeded, match="goes on"):
        await asked
    orders.settle(order.id, Outcome())


async def test_a_sender_that_leaves_takes_its_order_along(orders: Instructions) -> None:
    asked = await give(orders, LOAD)
    asked.cancel()
    await asyncio.wait([asked])
    assert await orders.take("change", 1) is None


async def test_without_an_operator_orders_are_refused_at_once() -> None:
    with pytest.raises(Unavailable, match="nobody"):
        await Instructions().give(LOAD, 60)


async def test_an_operator_that_went_silent_is_missed_but_one_at_work_is_not(
    orders: Instructions,
) -> None:
    await give(orders, LOAD)
    order = await taken(orders, LOAD)
    await asyncio.sleep(20)
    await give(orders, LOAD)
    orders.settle(order.id, Outcome())
    with pytest.raises(Unavailable):
        await orders.give(LOAD, 60)


async def test_closing_refuses_what_waits_and_what_runs_and_lets_the_operator_go(
    orders: Instructions,
) -> None:
    running = await give(orders, LOAD)
    order = await taken(orders, LOAD)
    waiting = await give(orders, LOAD)
    looking = asyncio.create_task(orders.take("look", 60))
    await asyncio.sleep(0.001)
    await orders.close()
    assert [type(await _error(task)) for task in (running, waiting)] == [ShuttingDown, ShuttingDown]
    assert await looking is None
    orders.settle(order.id, Outcome())
    with pytest.raises(Unavailable):
        await orders.give(LOAD, 60)


async def _error(task: "asyncio.Task[Outcome]") -> HeadraceError:
    with pytest.raises(HeadraceError) as raised:
        (await task).entries()
    return raised.value
