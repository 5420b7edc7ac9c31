from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.batching.policy import Limits, pick


@dataclass(frozen=True)
class Waiting:
    name: str
    rows: int = 1
    group: str = ""


waiting_lines = st.lists(
    st.builds(Waiting, name=st.text("abc"), rows=st.integers(1, 4), group=st.sampled_from("xyz")), max_size=20
)


def names(batch: list[Waiting]) -> str:
    return "".join(item.name for item in batch)


def test_an_empty_line_makes_no_batch() -> None:
    assert pick([], 4) == []


def test_items_leave_in_the_order_they_came() -> None:
    assert names(pick([Waiting(name) for name in "abcde"], 3)) == "abc"


def test_an_item_that_does_not_fit_waits_and_a_smaller_one_fills_its_place() -> None:
    assert names(pick([Waiting("a", 2), Waiting("b", 3), Waiting("c", 2)], 4)) == "ac"


def test_groups_do_not_mix() -> None:
    line = [Waiting("a", group="x"), Waiting("b", group="y"), Waiting("c", group="x")]
    assert names(pick(line, 4)) == "ac"


@given(waiting_lines)
def test_the_oldest_always_travels_within_the_budget_and_with_its_own_group(line: list[Waiting]) -> None:
    batch = pick(line, 4)
    assert batch[:1] == line[:1]
    assert sum(item.rows for item in batch) <= 4
    assert len({item.group for item in batch}) <= 1


@pytest.mark.parametrize("name", ["max_rows", "max_waiting_rows", "max_waiting_bytes", "max_running"])
def test_a_limit_below_one_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        Limits(**{name: 0})
