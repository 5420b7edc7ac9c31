"""The histories that the batcher is judged after: their executors, and the verdict itself."""

import pytest
from loadtests.histories import main
from loadtests.simulation.histories import COSTS, HISTORIES, best_fixed, judge
from typer import BadParameter

from headrace.batching import Limits

CLIFF = COSTS["cliff: 0.1 ms a row, beyond 16 0.3 ms"]
FLAT = COSTS["20 ms whatever the size"]


def test_the_best_fixed_size_is_where_the_cost_says() -> None:
    assert best_fixed(CLIFF, sizes=(1, 16, 64))[0] == 16
    assert best_fixed(FLAT, sizes=(1, 16, 64))[0] == 64


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.slow("simulates minutes of load")
def test_after_each_history_the_batcher_is_nearly_as_fast_as_the_best_fixed_size(
    history: str,
) -> None:
    for cost in (CLIFF, FLAT):
        _, best = best_fixed(cost, sizes=(16, 64))
        assert judge(cost, HISTORIES[history], seed=1).rate >= 0.9 * best


def test_a_size_that_does_not_fit_is_seen_to_be_slow() -> None:
    """A check that says "all is well" must be able to fail."""
    _, best = best_fixed(CLIFF, sizes=(16,))
    assert (
        judge(CLIFF, HISTORIES["quiet"], 1, limits=Limits(max_rows=64, least_gain=0.99)).rate
        < 0.9 * best
    )


def test_the_same_seed_gives_the_same_outcome() -> None:
    assert judge(FLAT, HISTORIES["pauses"], 3) == judge(FLAT, HISTORIES["pauses"], 3)


def test_an_unknown_history_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadParameter, match="expected one of quiet; log-normal;"):
        main(seeds=1, cost=[], history=["nosuch"])
