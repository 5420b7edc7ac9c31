"""The simulator: traffic, executors, policies on virtual time, and its verdict on the batcher."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from loadtests.simulate import arrivals_of, keys_of
from loadtests.simulation.executors import PRESETS, Executor, Preset
from loadtests.simulation.policies import Policy, Timer, policies, sweep
from loadtests.simulation.report import draw_plots, highest_table, shares_table
from loadtests.simulation.study import MET_SHARE, highest_load, study
from loadtests.simulation.traffic import Arrival, Traffic, TrafficError, at_rate, draw, read_trace
from loadtests.simulation.trial import Machines, Trial, play
from loadtests.support.virtual_time import run

from headrace.batching import Limits
from headrace.errors import Overloaded

FIXED = Preset("1 s whatever the batch", 1.0, 0.0, 2.0)
CELLS = Preset("a tenth of a second a cell", 0.0, 0.1, 5.0)
HEADRACE, FIRST_COME, TIMER, BUCKETS = policies(Limits(max_rows=4), timer_s=0.05).values()


def coming(*times_s: float, length: int = 1, deadline_s: float = 100.0) -> list[Arrival]:
    return [Arrival(at_s, length, "", deadline_s) for at_s in times_s]


def test_traffic_has_its_rate_and_the_lengths_that_it_says() -> None:
    drawn = draw(Traffic(requests=2000), 100)
    lengths = [arrival.length for arrival in drawn]
    assert drawn[-1].arrival_s == pytest.approx(20, rel=0.1)
    assert np.median(lengths) == pytest.approx(16, abs=1)
    assert (min(lengths) >= 1, max(lengths) == 256) == (True, True)


def test_at_another_rate_the_same_requests_come_further_apart() -> None:
    fast, slow = (draw(Traffic(requests=50, deadlines_s=(1.0, 2.0)), rate) for rate in (100, 50))
    assert [a.arrival_s for a in slow] == pytest.approx([2 * a.arrival_s for a in fast])
    assert [a[1:] for a in slow] == [a[1:] for a in fast]


def test_bursts_keep_the_rate_and_leave_the_rest_of_the_time_empty() -> None:
    drawn = draw(Traffic(requests=2000, shape="bursts", on_s=0.5, on_share=0.25), 100)
    assert drawn[-1].arrival_s == pytest.approx(20, rel=0.15)
    assert all(arrival.arrival_s % 2.0 <= 0.5 for arrival in drawn)


def test_keys_and_deadlines_come_by_their_shares() -> None:
    drawn = draw(Traffic(requests=2000, keys=keys_of(["a=3", "b=1"]), deadlines_s=(1.0, 9.0)), 100)
    assert sum(arrival.key_id == "a" for arrival in drawn) == pytest.approx(1500, rel=0.1)
    assert sum(arrival.deadline_s == 9.0 for arrival in drawn) == pytest.approx(1000, rel=0.1)


@pytest.mark.parametrize("text", ["a", "a=", "a=x", "a=0", "a=inf", "a=nan"])
def test_a_key_without_a_share_is_refused(text: str) -> None:
    with pytest.raises(TrafficError, match=f"key: expected .*, found {text}"):
        keys_of([text])


def trace(folder: Path, *rows: str, head: str = "arrival_s,length,owner,deadline_s") -> Path:
    file = folder / "trace.csv"
    file.write_text("\n".join((head, *rows)), encoding="utf-8")
    return file


def test_a_trace_is_read_in_order_from_zero_and_sped_up_to_a_rate(tmp_path: Path) -> None:
    found = read_trace(trace(tmp_path, "103,7,b,0.5", "100,5,,1"))
    assert found == [Arrival(0.0, 5, "", 1.0), Arrival(3.0, 7, "b", 0.5)]
    assert [arrival.arrival_s for arrival in at_rate(found, 4.0)] == pytest.approx([0.0, 0.5])


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (["1,2,a,x"], "row 1: expected numbers"),
        (["1,2"], "row 1: expected numbers"),
        (["1,2,a,1", "nan,2,a,1"], "row 2: expected a length"),
        (["1,0,a,1"], "row 1: expected a length"),
        (["1,2,a,0"], "row 1: expected a length"),
        (["1,2,a,1"], "expected requests at two times"),
        ([], "expected requests at two times"),
    ],
)
def test_a_trace_that_says_nothing_useful_is_refused_with_its_row(
    tmp_path: Path, rows: list[str], why: str
) -> None:
    with pytest.raises(TrafficError, match=why):
        read_trace(trace(tmp_path, *rows))


def test_a_trace_without_a_column_or_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="found no deadline_s"):
        read_trace(trace(tmp_path, head="arrival_s,length,owner"))
    with pytest.raises(TrafficError, match="cannot be read"):
        read_trace(tmp_path / "none.csv")


def test_a_model_whose_time_knows_no_lengths_gets_none() -> None:
    assert {
        a.length for a in arrivals_of(Traffic(requests=100), PRESETS["yardstick"], None)(10)
    } == {1}


async def _batches_of(execute: Executor, *batches: Sequence[int]) -> float:
    for batch in batches:
        await execute(batch)
    return asyncio.get_running_loop().time()


def test_an_executor_charges_what_is_padded() -> None:
    executor = Executor(CELLS, BUCKETS.padded)
    assert run(_batches_of(executor, [3, 20])) == pytest.approx(0.1 * 2 * 32)
    assert (executor.rows, executor.cells, executor.real_cells) == (2, 64, 23)


def test_noise_moves_single_batches_and_not_their_mean() -> None:
    took_s = run(_batches_of(Executor(FIXED, int, noise=0.2), *[[1]] * 1000))
    assert took_s != 1000
    assert took_s == pytest.approx(1000, rel=0.02)


def test_no_more_is_possible_than_full_batches_without_padding() -> None:
    assert FIXED.limit(1, 32) == pytest.approx(32)
    assert PRESETS["minilm-cpu"].limit(25, 32) == pytest.approx(1 / (25 * 0.0003 + 0.004 / 32))


def test_lengths_are_rounded_up_to_an_edge_beyond_the_last_too() -> None:
    assert [BUCKETS.padded(length) for length in (1, 2, 16, 17, 256, 257)] == [
        1,
        16,
        16,
        32,
        256,
        512,
    ]


def test_what_a_line_is_told_is_the_policys() -> None:
    assert [policy.told(20) for policy in (HEADRACE, FIRST_COME, BUCKETS)] == [
        (20, None),
        (1, None),
        (32, 32),
    ]


def test_a_sweep_varies_one_limit() -> None:
    found = sweep("patience-s", Limits(max_rows=4))
    assert [(p.limits.patience_s, p.limits.max_rows) for p in found.values()] == [
        (0.1, 4),
        (0.3, 4),
        (1, 4),
        (3, 4),
    ]


def test_a_timer_seals_while_the_executor_is_busy_so_that_batches_stay_small() -> None:
    every_100_ms = coming(*(n / 10 for n in range(20)))
    assert play(TIMER, every_100_ms, Machines(FIXED)).mean_rows == 1
    assert play(HEADRACE, every_100_ms, Machines(FIXED)).mean_rows > 3


def test_a_timer_leaves_at_once_when_it_is_full() -> None:
    assert play(TIMER, coming(*[0.001] * 4), Machines(FIXED)).p99_s == pytest.approx(1.0)
    assert play(TIMER, coming(*[0.001] * 3), Machines(FIXED)).p99_s == pytest.approx(1.05)


def test_a_timer_refuses_what_has_no_room() -> None:
    async def full() -> None:
        async with Timer(Executor(FIXED, int), Limits(max_waiting_rows=1), 1.0) as line:
            line.submit(1)
            with pytest.raises(Overloaded, match="1 rows wait already"):
                line.submit(1)
            await line.drain()

    run(full())


def test_every_request_is_counted_once_and_a_refusal_is_a_miss() -> None:
    few = Policy("few", Limits(max_rows=1, max_waiting_rows=1))
    found = play(few, coming(0.1, 0.2, 0.3, 0.4), Machines(FIXED))
    assert (found.in_time, found.met, found.refused) == (0.5, 0.5, 0.5)
    assert found.throughput == pytest.approx(2 / 2.1)


def test_shares_are_told_by_key_and_by_deadline() -> None:
    arrivals = [Arrival(0.1, 1, "a", 1.5), Arrival(0.2, 1, "b", 1.5), Arrival(0.3, 1, "b", 9.0)]
    found = play(Policy("", Limits(max_rows=1)), arrivals, Machines(FIXED))
    assert found.in_time_by_key == {"a": 1.0, "b": 0.5}
    assert found.in_time_by_deadline == {1.5: 0.5, 9.0: 1.0}


def test_two_replicas_share_the_requests() -> None:
    arrivals = coming(0.1, 0.2)
    one, two = (
        play(Policy("", Limits(max_rows=1)), arrivals, Machines(FIXED, replicas))
        for replicas in (1, 2)
    )
    assert one.p99_s > 1.5
    assert two.p99_s == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_figures() -> None:
    machines = Machines(PRESETS["gpu"], replicas=2, noise=0.3)
    first, again = (play(HEADRACE, draw(Traffic(requests=300), 900), machines) for _ in range(2))
    assert first == again


def _trial_at(stands: float) -> Callable[[float], Trial]:
    """Figures at a rate for a policy that stands no more than so much."""
    usual = play(HEADRACE, coming(0.1, 0.2), Machines(FIXED))
    return lambda rate: Trial(
        **{**vars(usual), "offered": rate, "met": 1.0 if rate <= stands else 0.5}
    )


def test_the_highest_load_is_found_between_two_that_were_tried() -> None:
    at = _trial_at(13.0)
    found = highest_load([(rate, at(rate)) for rate in (8.0, 16.0, 24.0)], at)
    assert found is not None
    assert found.offered == pytest.approx(13.0, abs=8 / 2**4)


def test_without_a_load_that_is_stood_there_is_no_highest() -> None:
    assert highest_load([(8.0, _trial_at(0.0)(8.0))], _trial_at(0.0)) is None


def test_a_study_is_told_as_tables_and_plots(tmp_path: Path) -> None:
    traffic = Traffic(requests=100, deadlines_s=(1.0, 5.0))
    told: list[str] = []
    courses = study(
        [HEADRACE, TIMER], [1.0, 3.0], partial(draw, traffic), Machines(FIXED), told.append
    )
    assert {"headrace", "timer"} == set(told)
    assert highest_table(courses).row_count == 2
    shares = shares_table(courses)
    assert shares is not None
    assert shares.row_count == 4
    draw_plots(courses, "a study", FIXED.objective_s, tmp_path / "made" / "plots.svg")
    assert b"</svg>" in (tmp_path / "made" / "plots.svg").read_bytes()


def test_like_lengths_together_stand_nearly_twice_the_load_of_first_come() -> None:
    """1.8 times and more: MiniLM on a CPU, heavy-tailed lengths, 99 % of the requests within 500
    ms.

    At 50 a second first-come is past its highest load, so that what the batcher stands at 90 is 1.8
    times as much.
    """
    traffic = Traffic(requests=2000, deadlines_s=(30.0,))
    machines = Machines(PRESETS["minilm-cpu"], noise=0.1)
    headrace, first_come, *_ = policies(Limits(), timer_s=0.01).values()
    assert play(first_come, draw(traffic, 50), machines).met < MET_SHARE
    assert play(headrace, draw(traffic, 1.8 * 50), machines).met >= MET_SHARE
