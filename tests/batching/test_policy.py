from dataclasses import dataclass
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.batching import Cost
from headrace.batching.policy import Limits, pick


@dataclass(frozen=True)
class Waiting:
    name: str
    rows: int = 1
    group: str = ""
    length: int = 1
    deadline_s: float = inf


waiting_items = st.lists(
    st.builds(
        Waiting,
        name=st.text("abc"),
        rows=st.integers(1, 4),
        group=st.sampled_from("xyz"),
        length=st.integers(1, 30),
    ),
    max_size=20,
)


def batch(items: list[Waiting], max_rows: int) -> list[Waiting]:
    return pick(items, max_rows).batch


def names(batch: list[Waiting]) -> str:
    return "".join(item.name for item in batch)


def test_an_empty_queue_makes_no_batch() -> None:
    assert pick([], 4) == ([], [])


def test_items_leave_in_the_order_they_came() -> None:
    assert names(batch([Waiting(name) for name in "abcde"], 3)) == "abc"


def test_an_item_that_does_not_fit_waits_and_a_smaller_one_fills_its_place() -> None:
    assert names(batch([Waiting("a", 2), Waiting("b", 3), Waiting("c", 2)], 4)) == "ac"


def test_groups_do_not_mix() -> None:
    items = [Waiting("a", group="x"), Waiting("b", group="y"), Waiting("c", group="x")]
    assert names(batch(items, 4)) == "ac"


@given(waiting_items)
def test_the_oldest_always_travels_within_the_budget_and_with_its_own_group(
    items: list[Waiting],
) -> None:
    picked = batch(items, 4)
    assert picked[:1] == items[:1]
    assert sum(item.rows for item in picked) <= 4
    assert len({item.group for item in picked}) <= 1


@pytest.mark.parametrize(
    "name", ["max_rows", "max_waiting_rows", "max_waiting_bytes", "max_running"]
)
def test_a_limit_below_one_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        Limits(**{name: 0})


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"least_gain": 1.0}, "least_gain must be between 0 and 1, not 1.0"),
        ({"patience_s": -1.0}, "patience_s must be at least 0, not -1.0"),
    ],
)
def test_a_share_or_a_time_that_cannot_be_is_refused_with_its_name(
    limits: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        Limits(**limits)


def lengths(picked: list[Waiting]) -> list[int]:
    return [item.length for item in picked]


def ragged(*found: int) -> list[Waiting]:
    return [Waiting("x", length=length) for length in found]


CHEAP_START, DEAR_START = Cost(0.02, 0.0001), Cost(1.0, 0.0001)


def test_like_lengths_travel_together_where_padding_costs_more_than_another_batch() -> None:
    items = ragged(10, 200, 11, 190, 9)
    assert lengths(pick(items, 8, cost=CHEAP_START).batch) == [10, 11, 9]
    assert lengths(pick(items[1:], 8, cost=CHEAP_START).batch) == [200, 190]


def test_all_lengths_travel_together_where_another_batch_costs_more_than_padding() -> None:
    assert lengths(pick(ragged(10, 200, 11), 8, cost=DEAR_START).batch) == [10, 200, 11]


def test_the_first_travels_though_others_would_make_a_better_batch() -> None:
    items = ragged(200, *[10] * 30)
    assert lengths(pick(items, 8, cost=CHEAP_START).batch) == [200]


def test_a_batch_keeps_within_what_the_device_has_room_for() -> None:
    assert lengths(pick(ragged(10, 10, 10, 10), 8, max_cells=25, cost=DEAR_START).batch) == [10, 10]
    assert lengths(pick(ragged(100, 100), 8, max_cells=25, cost=DEAR_START).batch) == [100]


def test_time_between_batches_is_a_reason_for_fewer_of_them() -> None:
    items = ragged(10, 200, 11)
    assert lengths(pick(items, 8, cost=CHEAP_START).batch) == [10, 11]
    assert lengths(pick(items, 8, cost=CHEAP_START._replace(gap_s=1.0)).batch) == [10, 200, 11]


def test_what_cannot_finish_in_time_even_alone_is_late_and_the_rest_travel() -> None:
    items = [Waiting("late", deadline_s=0.5), Waiting("able", deadline_s=2.0)]
    picked = pick(items, 4, cost=Cost(1.0, 0.0), now_s=0.0)
    assert (names(picked.batch), names(picked.late)) == ("able", "late")


def test_a_batch_is_no_longer_than_its_tightest_deadline_allows() -> None:
    items = [Waiting(name, deadline_s=4.5) for name in "abcdef"]
    assert names(pick(items, 6, cost=Cost(1.0, 1.0)).batch) == "abc"


@given(waiting_items, st.floats(0, 1), st.floats(0, 1))
def test_whatever_it_costs_the_first_travels_within_every_limit(
    items: list[Waiting], base_s: float, cell_s: float
) -> None:
    picked = pick(items, 6, 40, Cost(base_s, cell_s)).batch
    assert picked[:1] == items[:1]
    assert sum(item.rows for item in picked) <= 6
    assert len(picked) <= 1 or sum(i.rows for i in picked) * max(lengths(picked)) <= 40
    assert len({item.group for item in picked}) <= 1


def test_one_in_a_hurry_does_not_leave_alone_where_others_cost_it_next_to_nothing() -> None:
    items = [Waiting("a", deadline_s=1.0001), *(Waiting(name, deadline_s=inf) for name in "bcd")]
    assert names(pick(items, 4, cost=Cost(1.0, 0.00001, 0.01)).batch) == "abcd"


def test_one_in_a_hurry_is_not_held_up_by_others_who_take_their_time() -> None:
    items = [Waiting("a", deadline_s=4.1), *(Waiting(name, deadline_s=inf) for name in "bcd")]
    assert names(pick(items, 4, cost=Cost(1.0, 3.0)).batch) == "a"
