"""Limits of batches: a second of backlog finds them, whatever was believed before."""

from collections.abc import Callable
from itertools import count
from math import ceil, inf
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.batching import Cost, CostModel
from headrace.batching.sizes import Sizes

MOST_ROWS = 64

SHAPES: dict[str, Callable[[int], float]] = {
    "rows that cost little": lambda rows: 60e-6 + 25e-6 * rows,
    "a dear start": lambda rows: 5e-3 + 1e-4 * rows,
    "steps of 16 rows": lambda rows: 1e-3 + 2e-3 * ceil(rows / 16),
    "a cliff behind 16 rows": lambda rows: 1e-4 + 1e-4 * rows + 2e-4 * max(0, rows - 16),
    "one time for all sizes": lambda _: 5e-3,
    "a plateau up to 8 rows": lambda rows: 1e-4 * min(rows, 8),
}


class Spell(NamedTuple):
    """For `lasts_s`, batches beyond `spared` rows often take `times` as long."""

    lasts_s: float
    spared: int
    times: float
    often: float
    waiting: int


spells = st.lists(
    st.builds(
        Spell,
        lasts_s=st.floats(0.1, 3),
        spared=st.sampled_from((0, 1, 2, 8)),
        times=st.sampled_from((0.2, 2.0, 3.0, 15.0)),
        often=st.floats(0, 1),
        waiting=st.sampled_from((1, 3, 17, 64, 500)),
    ),
    max_size=4,
)
QUIET = Spell(1.5, 0, 1.0, 0.0, 500)
# Leaves 64 rows with times of 5 and of 75 ms, too widely spread to be compared with any others.
DOUBTS_OF_64_ROWS = [
    Spell(2.0, 0, 15.0, 0.25, 1),
    Spell(1.9375, 0, 0.2, 0.0, 1),
    Spell(1.0, 0, 15.0, 0.125, 64),
    Spell(3.0, 8, 15.0, 0.5, 64),
]


class Executor:
    """Runs one batch after the other, as large as its `sizes` let it."""

    def __init__(self, seconds: Callable[[int], float], seed: int = 0) -> None:
        self.sizes, self.cost = Sizes(), CostModel()
        self.seconds = seconds
        self._chance = Random(seed)
        self._now_s = 0.0
        self.batches: list[int] = []
        for rows in (1, MOST_ROWS):  # as a host's warm-up tells it
            self.cost.batch_ran(rows, rows, seconds(rows), self._now_s)

    def endure(self, spell: Spell) -> float:
        """The rows a second of a spell."""
        began_s, rows = self._now_s, 0
        self.batches = []
        while self._now_s < began_s + spell.lasts_s:
            fitting = min(spell.waiting, MOST_ROWS)
            batch = int(
                min(fitting, self.sizes.most(fitting, 1, self.cost.at(self._now_s), self._now_s))
            )
            took_s = self.seconds(batch) * self._chance.lognormvariate(0, 0.05)
            if batch > spell.spared and self._chance.random() < spell.often:
                took_s *= spell.times
            self._now_s += took_s
            self.sizes.ran(batch, took_s, self._now_s)
            self.cost.batch_ran(batch, batch, took_s, self._now_s)
            self.batches.append(batch)
            rows += batch
        return rows / (self._now_s - began_s)


def best(seconds: Callable[[int], float]) -> float:
    return max(rows / seconds(rows) for rows in range(1, MOST_ROWS + 1))


@pytest.mark.parametrize("shape", SHAPES)
@given(history=spells, seed=st.integers(0, 1000))
@example(history=DOUBTS_OF_64_ROWS, seed=131)
@settings(max_examples=60, deadline=None)
@pytest.mark.slow("searches many generated cases")
def test_after_any_history_a_second_of_backlog_brings_nearly_the_best_rate(
    shape: str, history: list[Spell], seed: int
) -> None:
    executor = Executor(SHAPES[shape], seed)
    for spell in history:
        executor.endure(spell)
    executor.endure(QUIET)
    assert executor.endure(QUIET) >= 0.9 * best(SHAPES[shape])


def test_what_waits_travels_together_until_smaller_batches_are_shown_to_be_as_fast() -> None:
    sizes = Sizes()
    assert sizes.cells == inf
    assert sizes.most(40, 1, None, 0.0) == inf


def test_batches_grow_only_as_far_as_larger_ones_gain_something() -> None:
    executor = Executor(lambda rows: 1e-3 * rows)
    executor.endure(QUIET)
    executor.endure(QUIET)
    assert executor.sizes.cells < MOST_ROWS


def test_a_larger_size_that_is_slower_is_tried_all_the_same_again_and_again() -> None:
    executor = Executor(SHAPES["a cliff behind 16 rows"])
    executor.endure(QUIET)
    executor.endure(QUIET)
    assert executor.sizes.cells == 16
    assert 3 <= sum(batch > 16 for batch in executor.batches) < 0.1 * len(executor.batches)


def test_a_belief_in_single_rows_does_not_outlive_a_second() -> None:
    """Each row of a batch costs all the others more, until whatever did that is gone."""
    executor = Executor(lambda rows: 1e-4 * rows**2)
    executor.endure(QUIET)
    executor.endure(QUIET)
    assert executor.sizes.cells == 1
    executor.seconds = SHAPES["rows that cost little"]
    executor.endure(QUIET._replace(lasts_s=1.0))
    executor.endure(QUIET)
    assert sum(executor.batches) / len(executor.batches) >= 16


def test_rows_that_are_larger_than_the_size_in_use_are_batched_all_the_same() -> None:
    """Short rows are slower together, and then long ones come, which are not."""
    executor = Executor(lambda cells: 1e-4 * cells**1.5)
    executor.endure(QUIET)
    executor.endure(QUIET)
    sizes, now_s = executor.sizes, 10.0
    assert sizes.cells < MOST_ROWS
    batches = []
    for _ in range(200):  # rows of 512 cells, 20 ms whatever their number
        cells = 512 * max(
            1, int(min(512 * MOST_ROWS, sizes.most(512 * MOST_ROWS, 512, None, now_s)) // 512)
        )
        now_s += 0.02
        sizes.ran(cells, 0.02, now_s)
        batches.append(cells // 512)
    assert min(batches[-20:]) >= 16


def test_a_few_batches_that_were_slow_prove_nothing() -> None:
    """Medians of a widely spread size may mislead: doubt favours the larger size."""
    sizes, clock = Sizes(), count()
    for spread in (1.0, 9.0, 4.0):
        sizes.ran(32, 1e-3 * spread, next(clock) * 1e-3)
        sizes.ran(16, 1e-3, next(clock) * 1e-3)
    assert sizes.most(32, 1, Cost(1e-3, 0.0), next(clock) * 1e-3) == inf


def test_a_widely_spread_size_is_tried_itself_rather_than_a_smaller_one_again_and_again() -> None:
    sizes, clock = Sizes(), count()
    for times in (1, 1, 2, 15, 15, 15):
        sizes.ran(64, 5e-3 * times, next(clock) * 0.05)
    for _ in range(6):
        sizes.ran(8, 5e-3, next(clock) * 0.05)
    assert sizes.most(64, 1, None, next(clock) * 0.05) == inf
