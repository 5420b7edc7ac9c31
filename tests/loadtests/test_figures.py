"""Exact figures of users, and how objectives judge them."""

from pathlib import Path

import pytest

from headrace.config import Objectives
from headrace.loadtest.figures import Row, missed, read_rows
from headrace.loadtest.record import Record

FAST = Row("dga-lstm", 400, 0, 20.0, 5.0, 12.0, 31.0)
FAILING = Row("efficientnet-lite0", 200, 10, 9.5, 60.0, 120.0, 170.0, "wrong answer")


def record(**times_ms: list[float]) -> Record:
    """Of a run of 20 s; each model's first request was a failure."""
    made = Record()
    for model, times in times_ms.items():
        for n, ms in enumerate(times):
            made.add(model, ms, None if n else "wrong answer")
    made.took_s = made.ran_s = 20.0
    return made


def rows_of(made: Record, folder: Path) -> tuple[tuple[Row, ...], Row, float]:
    made.write(folder / "times.json")
    return read_rows(folder / "times.json")


def test_a_record_becomes_rows_by_name_and_a_total(tmp_path: Path) -> None:
    assert rows_of(record(b=[4.0, 2.0], a=[1.0]), tmp_path) == (
        (
            Row("a", 1, 1, 0.0, 1.0, 1.0, 1.0, "wrong answer"),
            Row("b", 2, 1, 0.05, 2.0, 4.0, 4.0, "wrong answer"),
        ),
        Row("all", 3, 2, 0.05, 2.0, 4.0, 4.0, "wrong answer"),
        20.0,
    )


def test_a_run_without_requests_is_a_total_of_nothing(tmp_path: Path) -> None:
    assert rows_of(Record(), tmp_path) == ((), Row("all", 0, 0, 0.0, 0.0, 0.0, 0.0), 0.0)


@pytest.mark.parametrize(
    ("took_ms", "objective_ms"), [(1049.0, 1000), (104.9, 100), (2049.0, 2000), (1000.001, 1000)]
)
def test_a_time_is_judged_as_it_was_and_not_rounded(
    took_ms: float, objective_ms: float, tmp_path: Path
) -> None:
    rows, _, _ = rows_of(record(m=[took_ms] * 200), tmp_path)
    met = Objectives(p99_ms=took_ms, max_failure_ratio=1)
    assert missed(rows, {"m": met}) == []
    assert missed(rows, {"m": met.model_copy(update={"p99_ms": objective_ms})}) == [
        f"m: expected a p99 of at most {objective_ms} ms, found {took_ms:.10g} ms"
    ]


@pytest.mark.parametrize(
    ("count", "rank"), [(1, 1), (99, 99), (100, 99), (101, 100), (200, 198), (700, 693)]
)
def test_a_percentile_is_the_measured_time_of_its_nearest_rank(
    count: int, rank: int, tmp_path: Path
) -> None:
    rows, _, _ = rows_of(record(m=[float(n) for n in range(count, 0, -1)]), tmp_path)
    assert rows[0].p99_ms == rank


def test_the_most_frequent_reason_of_failures_is_told(tmp_path: Path) -> None:
    made = record(m=[1.0])
    for _ in range(2):
        made.add("m", 1.0, "no answer before the end")
    (row,), _, _ = rows_of(made, tmp_path)
    assert (row.failures, row.failure) == (3, "no answer before the end")


def test_objectives_that_are_met_give_no_sentence() -> None:
    objectives = {"dga-lstm": Objectives(p99_ms=31, min_rate=20)}
    assert missed([FAST], objectives) == []


@pytest.mark.parametrize(
    ("objectives", "sentence"),
    [
        (Objectives(p99_ms=30), "dga-lstm: expected a p99 of at most 30 ms, found 31 ms"),
        (Objectives(min_rate=20.01), "dga-lstm: expected at least 20.01 answers/s, found 20"),
    ],
)
def test_each_missed_objective_is_one_sentence(objectives: Objectives, sentence: str) -> None:
    assert missed([FAST], {"dga-lstm": objectives}) == [sentence]


def test_a_model_without_objectives_must_show_no_failure() -> None:
    assert missed([FAST, FAILING], {}) == [
        "efficientnet-lite0: expected failures of at most 0.00% of the requests, found 10 of 200, "
        "most often: wrong answer",
    ]


def test_failures_may_be_allowed() -> None:
    assert missed([FAILING], {"efficientnet-lite0": Objectives(max_failure_ratio=0.05)}) == []


def test_a_model_with_objectives_that_nobody_asked_is_missed() -> None:
    objectives = {"mail-spam": Objectives(p99_ms=100)}
    expected = ["mail-spam: expected requests, found none"]
    assert missed([FAST], objectives) == expected
    assert missed([FAST, Row("mail-spam", 0, 0, 0.0, 0.0, 0.0, 0.0)], objectives) == expected


def test_a_model_that_was_to_be_asked_and_was_not_is_missed() -> None:
    assert missed([FAST, Row("mail-spam", 0, 0, 0.0, 0.0, 0.0, 0.0)], {}) == [
        "mail-spam: expected requests, found none"
    ]


def test_a_run_without_any_request_is_missed() -> None:
    assert missed([], {}) == ["expected requests, found none"]
