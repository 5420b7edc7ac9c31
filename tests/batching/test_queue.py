"""The order of the line: fair between keys; by priority, deadline and age within one."""

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
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    rank_s = rank_s_of(queued_s, deadline_s, level, patience_s)
    return Item(name, rows, 1, 1, deadline_s, None, key_id, queued_s, rank_s, answer)


def filled(*items: Item[str, Any]) -> Queue[str, Any]:
    line: Queue[str, Any] = Queue()
    for one in items:
        line.add(one)
    return line


def order(line: Queue[str, Any]) -> list[str]:
    return [one.payload for one in line.in_order()]


async def test_the_earliest_deadline_goes_first() -> None:
    assert order(filled(item("late", deadline_s=0.9), item("soon", deadline_s=0.2))) == [
        "soon",
        "late",
    ]


async def test_far_deadlines_are_served_in_the_order_of_coming() -> None:
    line = filled(item("first", deadline_s=300.0), item("second", deadline_s=30.0, queued_s=0.1))
    assert order(line) == ["first", "second"]


async def test_with_more_patience_who_is_in_a_hurry_overtakes_for_longer() -> None:
    line = filled(
        item("patient", patience_s=3.0), item("hasty", queued_s=1.0, deadline_s=2.0, patience_s=3.0)
    )
    assert order(line) == ["hasty", "patient"]


async def test_who_is_in_a_hurry_overtakes_nobody_who_waited_long() -> None:
    assert order(filled(item("patient"), item("hasty", queued_s=1.0, deadline_s=1.2))) == [
        "patient",
        "hasty",
    ]


async def test_an_owner_who_floods_waits_behind_itself() -> None:
    flood = [item(f"flood {n}", key_id="a") for n in range(5)]
    line = filled(
        *flood, item("other 0", key_id="b", queued_s=1.0), item("other 1", key_id="b", queued_s=1.0)
    )
    assert order(line)[:4] == ["other 0", "flood 0", "other 1", "flood 1"]


async def test_what_an_owner_was_served_counts_against_it() -> None:
    flood = [item(f"flood {n}", key_id="a") for n in range(5)]
    line = filled(*flood, item("other 0", key_id="b"), item("other 1", key_id="b"))
    line.remove(flood[0], served=True)
    line.remove(flood[1], served=True)
    assert order(line)[:3] == ["other 0", "other 1", "flood 2"]


async def test_a_newcomer_has_no_credit_from_the_time_it_was_away() -> None:
    line = filled(*(item(f"a{n}", key_id="a") for n in range(4)))
    for one in list(line)[:3]:
        line.remove(one, served=True)
    for n in range(3):
        line.add(item(f"b{n}", key_id="b"))
    assert order(line) == ["a3", "b0", "b1", "b2"]


async def test_the_last_of_the_longest_queue_makes_room_for_another_owner() -> None:
    line = filled(item("a0", key_id="a"), item("a1", key_id="a"), item("a2", key_id="a"))
    last = line.last_for(item("b0", key_id="b"))
    assert last is not None
    assert last.payload == "a2"
    assert line.last_for(item("a3", key_id="a")) is None
    urgent = line.last_for(item("a4", key_id="a", level=1))
    assert urgent is not None
    assert urgent.payload == "a2"


async def test_what_is_ahead_counts_others_only_as_far_as_they_take_turns() -> None:
    line = filled(*(item(f"a{n}", key_id="a") for n in range(10)))
    assert line.ahead_of(item("b", key_id="b")).rows == 1
    assert line.ahead_of(item("late", key_id="a", queued_s=1.0)).rows == 10
    assert line.ahead_of(item("urgent", key_id="a", level=1)).rows == 0


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.floats(0, 2), st.integers(1, 3)),
        max_size=20,
    )
)
def test_everything_in_line_comes_out_once_and_the_totals_agree(
    found: list[tuple[str, int, float, int]],
) -> None:
    async def program() -> None:
        items = [
            item(str(n), key_id, 1e6, at, rows, level)
            for n, (key_id, rows, at, level) in enumerate(found)
        ]
        line = filled(*items)
        assert sorted(order(line)) == sorted(one.payload for one in items)
        assert line.rows == sum(one.rows for one in items)
        assert all(line.remove(one) for one in items)
        assert not any(line.remove(one) for one in items)
        assert (line.rows, line.cells, line.nbytes, bool(line)) == (0, 0, 0, False)

    run(program())


async def test_an_owner_who_comes_again_and_again_takes_turns_too() -> None:
    """Its queue is empty after each item, and yet it was served: it is no newcomer the next time."""
    line = filled(*(item(f"a{n}", key_id="a") for n in range(10)))
    served = []
    for n in range(10):
        line.add(item(f"b{n}", key_id="b"))
        following = next(iter(line.in_order()))
        line.remove(following, served=True)
        served.append(following.key_id)
        for left in [one for one in line if one.key_id == "b"]:
            line.remove(left)
    assert served.count("a") >= 4
