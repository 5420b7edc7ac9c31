"""The soak's judgement of growth and answers, and its leaving callers; run by hand."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from loadtests.overloading.marks import Mark
from loadtests.soak import Tally, growth_marks, traffic_marks
from loadtests.soaking.processes import Process, Sample
from loadtests.soaking.traffic import PHASES, Outcome, cut
from loadtests.soaking.trend import rise, slope

SECONDS, EVERY_S, WARM_UP_S = 1800.0, 5.0, 300.0
RATE = 15.0  # of one of two gateways
MIB, KB = 1 << 20, 1000
REQUEST = b"POST /here HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\n0123456789"


def process(
    rss: Callable[[float], float],
    files: Callable[[float], int] = lambda _: 80,
    since_s: float = 0.0,
) -> Process:
    times = np.arange(since_s, SECONDS, EVERY_S).tolist()
    return Process("gateway", 7, [Sample(at, int(rss(at)), files(at), 39) for at in times])


def judged(one: Process) -> Sequence[Mark]:
    return growth_marks([one], WARM_UP_S, SECONDS)


def noise(at_s: float) -> float:
    return 150 * MIB + float(np.random.default_rng(int(at_s)).uniform(0, 3 * MIB))


def saw_tooth(period_s: float, mib: float) -> Callable[[float], float]:
    return lambda at_s: noise(at_s) + at_s % period_s / period_s * mib * MIB


def leak(at_s: float) -> float:
    return KB * RATE * at_s


@pytest.mark.parametrize(
    "rss",
    [
        noise,
        saw_tooth(61, 40),
        saw_tooth(97, 40),
        saw_tooth(240, 40),
        lambda at_s: noise(at_s) + (5 * MIB if at_s > 1000 else 0),
        lambda at_s: noise(at_s) + min(at_s, WARM_UP_S) * MIB,
        lambda at_s: noise(at_s) + (400 * MIB if 1200 < at_s < 1300 else 0),
    ],
    ids=[
        "noise",
        "short teeth",
        "teeth",
        "long teeth",
        "a step",
        "warming up",
        "one large request",
    ],
)
def test_memory_that_comes_and_goes_is_no_growth_and_a_leak_beneath_it_is(
    rss: Callable[[float], float],
) -> None:
    assert all(mark.is_met for mark in judged(process(rss))), judged(process(rss))
    memory, files, threads = judged(process(lambda at_s: rss(at_s) + leak(at_s)))
    assert (memory.is_met, files.is_met, threads.is_met) == (False, True, True), memory


def test_a_slope_is_what_it_says() -> None:
    assert slope([(float(n), 3.0 + 0.5 * n) for n in range(100)]) == pytest.approx(0.5)
    assert slope([(1.0, 5.0)]) == slope([]) == rise([]) == 0.0


def test_files_that_are_not_closed_are_found_and_a_busy_moments_are_not() -> None:
    kept = process(noise, lambda at_s: 80 + int(at_s / 100))
    busy = process(noise, lambda at_s: 80 + (200 if at_s % 50 else 0))
    assert [[mark.is_met for mark in judged(one)] for one in (kept, busy)] == [
        [True, False, True],
        [True] * 3,
    ]


def test_a_process_that_just_began_is_not_judged() -> None:
    assert judged(process(leak, since_s=SECONDS - WARM_UP_S - 100)) == []
    assert judged(Process("gateway", 7)) == []


def test_each_kind_of_caller_is_judged_by_what_it_must_see() -> None:
    tally = Tally()
    for outcome in (
        Outcome("good", "dga-lstm", 200, is_expected=True),
        Outcome("malformed", "A01", 400, is_expected=True),
        Outcome("disconnect", "head", 0, is_expected=True),
    ):
        tally.enter(outcome)
    assert all(mark.is_met for mark in traffic_marks(tally, 0, 0))
    assert [mark.what for mark in traffic_marks(tally, 1, 0) if not mark.is_met] == ["status 500"]


@pytest.mark.parametrize(
    ("outcome", "missed"),
    [
        (Outcome("good", "dga-lstm", 503, is_expected=False), ["good"]),
        (
            Outcome("good", "dga-lstm", 200, is_expected=False, is_wrong=True),
            ["good", "wrong answers"],
        ),
        (Outcome("malformed", "A01", 200, is_expected=False), ["malformed"]),
        (Outcome("malformed", "A01", 500, is_expected=False), ["malformed", "status 500"]),
        (Outcome("disconnect", "head", 0, is_expected=False), ["disconnect"]),
    ],
)
def test_one_answer_that_is_not_as_it_should_be_is_a_miss(
    outcome: Outcome, missed: list[str]
) -> None:
    tally = Tally()
    tally.enter(outcome)
    assert [mark.what for mark in traffic_marks(tally, 0, 0) if not mark.is_met] == missed
    after_kills = [mark.what for mark in traffic_marks(tally, 0, 3) if not mark.is_met]
    assert after_kills == ([] if outcome.status == 503 else missed)


def test_callers_leave_in_each_phase_of_a_request() -> None:
    chance = np.random.default_rng(0)
    head = REQUEST.index(b"\r\n\r\n") + 4
    left = {phase: {len(cut(REQUEST, phase, chance)) for _ in range(1000)} for phase in PHASES}
    assert left["head"] == set(range(1, head))
    assert left["body"] == set(range(head, len(REQUEST)))
    assert left["waiting"] == {len(REQUEST)}
