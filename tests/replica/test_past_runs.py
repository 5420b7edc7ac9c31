"""The most time that a run may be expected to take: no sound batch is found endless later."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.batching import CostModel
from headrace.replica.past_runs import PastRuns

SHAPES: dict[str, Callable[[int], float]] = {
    "linear": lambda cells: 1e-3 + 1e-4 * cells,
    "square": lambda cells: 1e-3 + 1e-7 * cells**2,
    "flat": lambda _: 0.02,
}


@pytest.mark.parametrize("shape", SHAPES)
@given(sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=40))
def test_a_size_that_ran_before_may_take_as_long_again_whatever_ran_meanwhile(
    shape: str, sizes: list[int]
) -> None:
    runs, cost, now_s = PastRuns(), CostModel(), 0.0
    for cells in sizes:
        seconds = SHAPES[shape](cells)
        now_s += seconds
        cost.batch_ran(cells, cells, seconds, now_s)
        runs.add(cells, cells, seconds)
    for cells in sizes:
        assert 2 * runs.at_most_s(cells, cells, cost.seconds(cells)) >= SHAPES[shape](cells) / 2


def test_what_is_larger_than_all_that_ran_may_take_the_square_of_it() -> None:
    runs = PastRuns()
    runs.add(100, 100, 0.1)
    assert runs.at_most_s(400, 400, 0.1) >= 1.6
    assert runs.at_most_s(100, 100, 0.1) == 0.1


def test_one_long_row_may_take_longer_than_many_short_ones_of_as_many_cells() -> None:
    runs = PastRuns()
    runs.add(8192, 128, 0.2)
    assert runs.at_most_s(8192, 1024, 0.2) >= 8 * 0.2


def test_nothing_is_given_time_without_end() -> None:
    runs = PastRuns()
    runs.add(1, 1, 0.001)
    assert runs.at_most_s(10**9, 10**9, 0.001) <= 0.2
