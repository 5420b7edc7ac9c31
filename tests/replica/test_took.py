"""What a run may be expected to take at most: what was sound once is not found endless later."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.batching import CostModel
from headrace.replica.batches import Took

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
    took, cost, now_s = Took(), CostModel(), 0.0
    for cells in sizes:
        seconds = SHAPES[shape](cells)
        now_s += seconds
        cost.batch_ran(cells, cells, seconds, now_s)
        took.saw(cells, cells, seconds)
    for cells in sizes:
        assert 2 * took.at_most(cells, cells, cost.seconds(cells)) >= SHAPES[shape](cells) / 2


def test_what_is_larger_than_all_that_ran_may_take_the_square_of_it() -> None:
    took = Took()
    took.saw(100, 100, 0.1)
    assert took.at_most(400, 400, 0.1) >= 1.6
    assert took.at_most(100, 100, 0.1) == 0.1


def test_one_long_row_may_take_longer_than_many_short_ones_of_as_many_cells() -> None:
    took = Took()
    took.saw(8192, 128, 0.2)
    assert took.at_most(8192, 1024, 0.2) >= 8 * 0.2


def test_nothing_is_given_time_without_end() -> None:
    took = Took()
    took.saw(1, 1, 0.001)
    assert took.at_most(10**9, 10**9, 0.001) <= 0.2
