"""The order of the queue: fair between keys; by priority, deadline and age within one."""

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from loadtests.support.virtual_time import run

from headrace.batching.queue import DEFAULT_LEVEL, Item, Queue, rank_s_of


def item(
    name: str,
    key_id: str = "",
    deadline_s: float = 1e6,
    queued_s: float = 0.0,
    rows: int = 1,
    level: int = DEFAULT_LEVEL,
    patience_s: float = 1.0,
) -> Item[str, Any]:
    return Item(
        payload=name,
        rows=rows,
        length=1,
        nbytes=1,
        deadline_s=deadline_s,
        group=None,
        key_id=key_id,
        queued_s=queued_s,
        rank_s=rank_s_of(queued_s, deadline_s, level, patience_s),
        result=asyncio.get_running_loop().create_future(),
    )


def filled(*items: Item[str, Any]) -> Queue[str, Any]:
    queue: Queue[str, Any] = Queue()
    for one in items:
        queue.add(one)
    return queue


def order(queue: Queue[str, Any]) -> list[str]:
    return [one.payload for one in queue.in_order()]


async def test_the_earliest_deadline_goes_first() -> None:
    assert order(filled(item("late", deadline_s=0.9), item("soon", deadline_s=0.2))) == [
        "soon",
        "late",
    ]


async def test_far_deadlines_are_served_in_the_order_of_coming() -> None:
    queue = filled(item("first", deadline_s=300.0), item("second", deadline_s=30.0, queued_s=0.1))
    assert order(queue) == ["first", "second"]


async def test_with_more_patience_who_is_in_a_hurry_overtakes_for_longer() -> None:
    queue = filled(
        item("patient", patience_s=3.0), item("hasty", queued_s=1.0, deadline_s=2.0, patience_s=3.0)
    )
    assert order(queue) == ["hasty", "patient"]


async def test_who_is_in_a_hurry_overtakes_nobody_who_waited_long() -> None:
    assert order(filled(item("patient"), item("hasty", queued_s=1.0, deadline_s=1.2))) == [
        "patient",
        "hasty",
    ]


async def test_a_key_who_floods_waits_behind_itself() -> None:
    flood = [item(f"flood {n}", key_id="a") for n in range(5)]
    queue = filled(
        *flood, item("other 0", key_id="b", queued_s=1.0), item("other 1", key_id="b", queued_s=1.0)
    )
    assert order(queue)[:4] == ["other 0", "flood 0", "other 1", "flood 1"]


async def test_what_a_key_was_served_counts_against_it() -> None:
    flood = [item(f"flood {n}", key_id="a") for n in range(5)]
    queue = filled(*flood, item("other 0", key_id="b"), item("other 1", key_id="b"))
    queue.remove(flood[0], served=True)
    queue.remove(flood[1], served=True)
    assert order(queue)[:3] == ["other 0", "other 1", "flood 2"]


async def test_a_newcomer_has_no_credit_from_the_time_it_was_away() -> None:
    queue = filled(*(item(f"a{n}", key_id="a") for n in range(4)))
    for one in list(queue)[:3]:
        queue.remove(one, served=True)
    for n in range(3):
        queue.add(item(f"b{n}", key_id="b"))
    assert order(queue) == ["a3", "b0", "b1", "b2"]


async def test_the_last_of_the_longest_queue_makes_room_for_another_key() -> None:
    queue = filled(item("a0", key_id="a"), item("a1", key_id="a"), item("a2", key_id="a"))
    last = queue.last_for(item("b0", key_id="b"))
    assert last is not None
    assert last.payload == "a2"
    assert queue.last_for(item("a3", key_id="a")) is None
    urgent = queue.last_for(item("a4", key_id="a", level=1))
    assert urgent is not None
    assert urgent.payload == "a2"


async def test_what_is_ahead_counts_others_only_as_far_as_they_take_turns() -> None:
    queue = filled(*(item(f"a{n}", key_id="a") for n in range(10)))
    assert queue.ahead_of(item("b", key_id="b")).rows == 1
    assert queue.ahead_of(item("late", key_id="a", queued_s=1.0)).rows == 10
    assert queue.ahead_of(item("urgent", key_id="a", level=1)).rows == 0


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.floats(0, 2), st.integers(1, 3)),
        max_size=20,
    )
)
def test_everything_in_the_queue_comes_out_once_and_the_totals_agree(
    found: list[tuple[str, int, float, int]],
) -> None:
    async def program() -> None:
        items = [
            item(str(n), key_id, 1e6, at, rows, level)
            for n, (key_id, rows, at, level) in enumerate(found)
        ]
        queue = filled(*items)
        assert sorted(order(queue)) == sorted(one.payload for one in items)
        assert queue.rows == sum(one.rows for one in items)
        assert all(queue.remove(one) for one in items)
        assert not any(queue.remove(one) for one in items)
        assert (queue.rows, queue.cells, queue.nbytes, bool(queue)) == (0, 0, 0, False)

    run(program())


async def test_a_key_who_comes_again_and_again_takes_turns_too() -> None:
    """Its queue is empty after each item, but it was served, so it is no newcomer."""
    queue = filled(*(item(f"a{n}", key_id="a") for n in range(10)))
    served = []
    for n in range(10):
        queue.add(item(f"b{n}", key_id="b"))
        following = next(iter(queue.in_order()))
        queue.remove(following, served=True)
        served.append(following.key_id)
        for left in [one for one in queue if one.key_id == "b"]:
            queue.remove(left)
    assert served.count("a") >= 4
