"""The cost model learns from batches, and soon."""

import random
from weakref import WeakKeyDictionary

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.batching import CostModel

costs = st.floats(1e-5, 1.0)
clocks: WeakKeyDictionary[CostModel, float] = WeakKeyDictionary()


def taught(
    base_s: float, cell_s: float, cells: list[int], model: CostModel | None = None
) -> CostModel:
    """Feed it batches of these cells, one after the other, on a clock that goes on."""
    model = model or CostModel()
    for n in cells:
        seconds = base_s + cell_s * n
        clocks[model] = clocks.get(model, 0.0) + seconds
        model.batch_ran(n, n, seconds, clocks[model])
    return model


@given(costs, costs)
def test_two_sizes_of_batches_tell_both_numbers(base_s: float, cell_s: float) -> None:
    model = taught(base_s, cell_s, [1, 32] * 30)
    assert model.seconds(16) == pytest.approx(base_s + 16 * cell_s, rel=0.1)
    assert model.base_s <= 1.2 * base_s + 0.1 * model.seconds(32)


def test_batches_of_one_size_leave_what_was_known_of_others() -> None:
    model = taught(0.05, 0.001, [1, 32] * 20)
    taught(0.05, 0.001, [8] * 2000, model)
    assert model.base_s == pytest.approx(0.05, rel=0.1)


def test_a_model_that_became_twice_as_slow_is_known_within_a_dozen_batches() -> None:
    model = taught(0.05, 0.0, [16] * 100)
    taught(0.10, 0.0, [16] * 12, model)
    assert model.seconds(16) == pytest.approx(0.10, rel=0.15)


def test_one_pause_of_the_machine_does_not_change_the_picture() -> None:
    model = taught(0.01, 0.0001, [1, 32] * 30)
    model.batch_ran(32, 32, 5.0, now_s=0.0)
    assert model.seconds(32) < 2 * (0.01 + 0.0032)


def test_noise_does_not_lead_it_astray() -> None:
    chance = random.Random(0)
    model = CostModel()
    for _ in range(500):
        cells = chance.randint(1, 400)
        model.batch_ran(
            cells, cells, (0.004 + 0.0003 * cells) * chance.uniform(0.9, 1.3), now_s=0.0
        )
    assert model.seconds(200) == pytest.approx(1.1 * 0.064, rel=0.15)
    assert model.deviation_s > 0


def test_nothing_is_planned_by_what_was_seen_long_ago() -> None:
    model = taught(0.01, 0.001, [4, 8])
    assert model.at(0.5) is not None
    assert model.at(30.0) is None
    assert CostModel().at(0.0) is None


def test_the_share_of_padding_is_followed() -> None:
    model = CostModel()
    for _ in range(200):
        model.batch_ran(100, 50, 0.01, now_s=0.0)
    assert model.padding == pytest.approx(2.0, rel=0.01)


def test_the_time_between_two_batches_is_followed() -> None:
    model = CostModel()
    for _ in range(50):
        model.gap_took(0.02)
    assert model.gap_s == pytest.approx(0.02, rel=0.01)


def test_small_batches_that_became_slower_say_nothing_of_what_a_row_costs() -> None:
    model = taught(0.010, 0.0001, [1, 32] * 30)
    taught(0.040, 0.0001, [1] * 500, model)
    assert model.seconds(32) == pytest.approx(0.0431, rel=0.1)
