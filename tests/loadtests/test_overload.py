"""The overload tests' figures, marks, requests and driver; measurements are run by hand."""

import json
from dataclasses import replace
from io import StringIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from loadtests.overload import show, write_report
from loadtests.overloading.driver import Record
from loadtests.overloading.flood import fairness_marks, overload_marks, phases_of, schedule_of
from loadtests.overloading.harm import State, Volley, cancel_marks, poison_marks, volley_of
from loadtests.overloading.marks import (
    Mark,
    Phase,
    PhaseFigures,
    phase_figures,
    recovery_s,
    verdicts_of,
)
from loadtests.overloading.model import CAPACITY, fixed, is_answer, request
from loadtests.support.http_connection import BROKEN, GIVEN_UP
from loadtests.yardstick import WIDTH, answer_to
from rich.console import Console

from headrace_models.repository import read_version, verify

DEADLINE_S = 1.0
SOUND = Volley(100, 0, 0, 0.2)
POISONED = Volley(99, 1, 0, 0.5)
IDLE = State((10, 12), 0.0)
NAMES = ("goodput", "admitted_p99_s", "refused_p99_s", "wasted")


def record(*requests: tuple[float, float, int, bool], lateness_s: float = 0.0) -> Record:
    """Requests as (due, latency, status, is right)."""
    due_s, latency_s, status, is_right = (
        np.array(column) for column in zip(*requests, strict=True)
    )
    return Record(due_s, due_s + lateness_s, due_s + latency_s, status.astype(np.int16), is_right)


def figures(load: float = 2.0, **changed: float) -> PhaseFigures:
    good = PhaseFigures(load, {"right": 300}, 0.95, 0.9, 0.01, 0.0, 0.001, is_from_sending=False)
    return replace(good, **changed)  # type: ignore[arg-type]  # all of them are numbers


def test_its_model_is_a_sound_version(tmp_path: Path) -> None:
    replica, runs = fixed(tmp_path)
    verify(read_version(replica.folder))
    assert not runs.any()


def test_a_request_is_whole_and_its_answer_is_told_from_its_neighbours() -> None:
    head, body = request(7, 0.5, "hr_a.b", rows=2).split(b"\r\n\r\n", 1)
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert int(headers["Content-Length"]) == len(body)
    assert (headers["Authorization"], headers["X-Request-Timeout"]) == ("Bearer hr_a.b", "0.5")
    tensor = body[int(headers["Inference-Header-Content-Length"]) :]
    assert np.array_equal(np.frombuffer(tensor, "<f4"), np.full(2 * WIDTH, 7))
    answer = b"{}" + answer_to(np.full(WIDTH, 7, np.float32)).tobytes()
    assert is_answer(7, answer)
    assert not is_answer(8, answer)
    assert not is_answer(0, b"")


@pytest.mark.parametrize(
    ("status", "is_right", "latency_s", "runs", "verdict"),
    [
        (200, True, 0.5, 1, "right"),
        (200, True, 1.5, 1, "late"),
        (200, False, 0.5, 1, "wrong"),
        (200, True, 0.5, 2, "wrong"),
        (503, False, 0.01, 0, "refused"),
        (429, False, 0.01, 0, "refused"),
        (504, False, 1.0, 0, "expired"),
        (500, False, 0.1, 0, "failed"),
        (BROKEN, False, 0.1, 0, "failed"),
        (GIVEN_UP, False, np.nan, 0, "failed"),
    ],
)
def test_every_request_has_one_verdict(
    status: int, is_right: bool, latency_s: float, runs: int, verdict: str
) -> None:
    found = record((0.0, latency_s, status, is_right))
    assert verdicts_of(found, np.array([runs], np.uint8), found.ended_s, DEADLINE_S).tolist() == [
        verdict
    ]


def test_a_phase_counts_what_was_due_in_it_and_the_answers_that_came_in_it() -> None:
    found = record(
        (0.5, 0.4, 200, True),  # of the phase before, answered there
        (0.9, 0.4, 200, True),  # of the phase before, answered here
        (1.2, 0.4, 200, True),
        (1.4, 1.2, 200, True),  # late
        (1.5, 0.01, 503, False),
        (1.8, 0.4, 200, True),  # answered after the phase
    )
    runs = np.array([1, 1, 1, 1, 0, 1], np.uint8)
    seen = phase_figures(found, runs, Phase(2.0, 1.0, 2.0), DEADLINE_S, capacity=4.0)
    assert seen.counts == {"right": 2, "late": 1, "refused": 1}
    assert seen.goodput == 0.5
    assert seen.wasted == pytest.approx(1 / 3)
    assert seen.admitted_p99_s == pytest.approx(1.2)
    assert seen.refused_p99_s == pytest.approx(0.01)


@pytest.mark.parametrize(("lateness_s", "p99_s"), [(0.001, 0.4), (0.1, 0.3)])
def test_latency_counts_from_sending_only_if_the_driver_was_late(
    lateness_s: float, p99_s: float
) -> None:
    found = record((0.1, 0.4, 200, True), lateness_s=lateness_s)
    seen = phase_figures(found, np.ones(1, np.uint8), Phase(2.0, 0.0, 1.0), DEADLINE_S, 1.0)
    assert seen.admitted_p99_s == pytest.approx(p99_s)
    assert seen.is_from_sending == (lateness_s > 0.005)


def test_recovery_is_the_first_second_whose_requests_are_right_and_as_quick_as_before() -> None:
    slow = [(n / 10 + 0.05, 0.9, 200, True) for n in range(20)]
    quick = [(2.05 + n / 10, 0.1, 200, True) for n in range(30)]
    assert recovery_s(record(*slow, *quick), 0.0, 5.0, 0.12) == pytest.approx(2.0)
    assert recovery_s(record(*slow), 0.0, 2.0, 0.12) == np.inf
    assert (
        recovery_s(record(*[(n / 10, 0.01, 503, False) for n in range(20)]), 0.0, 2.0, 0.12)
        == np.inf
    )


def test_loads_follow_each_other_without_a_gap() -> None:
    phases = phases_of(2.0)
    assert [phase.load for phase in phases] == [0.7, 2.0, 5.0, 10.0, 0.5]
    assert all(a.end_s == b.begin_s for a, b in pairwise(phases))
    due_s = schedule_of(phases)
    assert len(due_s) == pytest.approx(
        sum(phase.load * phase.seconds * CAPACITY for phase in phases), abs=5
    )
    assert (np.diff(due_s) >= 0).all()


@pytest.mark.parametrize(("name", "value"), zip(NAMES, (0.89, 1.01, 0.021, 0.02), strict=True))
def test_each_figure_of_an_overload_is_held_to_its_mark(name: str, value: float) -> None:
    assert all(mark.is_met for mark in overload_marks([figures()], 1.0, DEADLINE_S))
    missed = overload_marks([figures(**{name: value})], 1.0, DEADLINE_S)
    assert [mark.is_met for mark in missed[:4]] == [n != name for n in NAMES]


def test_more_overload_may_cost_more_goodput() -> None:
    marks = overload_marks(
        [figures(load, goodput=0.8) for load in (2.0, 5.0, 10.0)], 1.0, DEADLINE_S
    )
    assert [mark.is_met for mark in marks if "of capacity" in mark.what] == [False, False, True]


@pytest.mark.parametrize("word", ["wrong", "failed"])
def test_the_ledger_bears_nothing_wrong_and_nothing_failed(word: str) -> None:
    found = replace(figures(), counts={"right": 300, word: 1})
    assert not overload_marks([found], 1.0, DEADLINE_S)[-1].is_met


def test_a_system_that_does_not_recover_misses_its_mark() -> None:
    assert not overload_marks([figures()], np.inf, DEADLINE_S)[-2].is_met


@pytest.mark.parametrize(
    ("beside", "met"),
    [
        (figures(0.3, admitted_p99_s=1.2), True),
        (figures(0.3, admitted_p99_s=1.4), False),
        (replace(figures(0.3), counts={"right": 299, "refused": 1}), False),
    ],
)
def test_a_flood_may_neither_slow_others_nor_cost_them_an_answer(
    beside: PhaseFigures, met: bool
) -> None:
    assert all(mark.is_met for mark in fairness_marks(figures(0.3), beside, figures(10.0))) is met


def test_a_volley_is_timed_from_the_end_of_the_request_before_it() -> None:
    found = record(
        (0.0, 0.1, 200, True),
        (0.02, 0.2, 200, True),
        (0.02, 0.3, 500, False),
        (0.02, 0.2, 503, False),
    )
    volley = volley_of(found)
    assert volley.counts == (1, 1, 1)
    assert volley.took_s == pytest.approx(0.22)


@pytest.mark.parametrize(
    ("poisoned", "met"),
    [
        (POISONED, True),
        (replace(POISONED, took_s=0.61), False),
        (replace(POISONED, right=98, failed=2), False),
        (replace(POISONED, failed=0, others=1), False),
    ],
)
def test_a_poison_harms_itself_alone_and_soon(poisoned: Volley, met: bool) -> None:
    assert all(mark.is_met for mark in poison_marks([SOUND], [poisoned])) is met


@pytest.mark.parametrize(
    ("rates", "after", "met"),
    [
        ([300.0, 298.0], IDLE, True),
        ([300.0, 290.0], IDLE, False),
        ([300.0, 300.0], replace(IDLE, files=(11, 12)), False),
        ([300.0, 300.0], replace(IDLE, held=1.0), False),
    ],
)
def test_those_who_leave_leave_nothing_behind(rates: list[float], after: State, met: bool) -> None:
    assert all(mark.is_met for mark in cancel_marks(rates, IDLE, after, 10_000, 5)) is met


def test_the_report_has_every_mark_and_null_for_what_is_no_number(tmp_path: Path) -> None:
    file = tmp_path / "reports" / "overload.json"
    write_report(
        file, {}, {"poison": [Mark("a", "b", "c", is_met=True)]}, {"x": np.nan, "y": POISONED}
    )
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["marks"]["poison"] == [
        {"what": "a", "expected": "b", "measured": "c", "is_met": True}
    ]
    assert document["figures"]["x"] is None


def test_the_table_says_what_was_missed() -> None:
    console = Console(record=True, width=100, file=StringIO())
    show({"poison": [Mark("a", "b", "c", is_met=False)]}, console)
    assert "MISSED" in console.export_text()
