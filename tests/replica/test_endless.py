"""A model that does not end on some input, behind a real gateway: others are answered."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform
from tests.replica.loops import ENDLESS, make_loop, patient_loop

pytestmark = pytest.mark.slow("waits for seconds on the real clock")

# Some rounds that take longer than the event loop may be held for, and less than any limit.
SOME = 2_000
# Of which a model that has a limit of its own may take as many, and one that has none may not.
MANY = 1_500_000


@pytest.fixture
def served(tmp_path: Path) -> Iterator[InProcessPlatform]:
    with in_process_platform(tmp_path, make=make_loop) as running:
        yield running


def ask(running: InProcessPlatform, number: int, timeout_s: float = 18.0) -> tuple[int, Any]:
    """The status, and what was answered: the number or the error's code."""
    tensor = {"name": "x", "datatype": "INT64", "shape": [1, 4], "data": [number] * 4}
    body = orjson.dumps({"inputs": [tensor]})
    status, answer, _ = running.ask(
        "POST", "/v2/models/loop/infer", body, {"X-Request-Timeout": f"{timeout_s}"}
    )
    return status, answer["outputs"][0]["data"][0] if status == 200 else answer["code"]


POISON = (500, "poison_input")


@pytest.mark.parametrize("before", [(), (1, 1, 1)], ids=["in a thread", "on the event loop"])
def test_an_endless_input_is_refused_once_it_was_stopped_and_then_at_once(
    served: InProcessPlatform, before: tuple[int, ...]
) -> None:
    for number in before:
        assert ask(served, number) == (200, number)
    assert ask(served, ENDLESS) == POISON
    assert ask(served, 5) == (200, 5)
    assert ask(served, ENDLESS) == POISON
    assert ask(served, 6) == (200, 6)


def test_its_twenty_neighbours_are_answered(served: InProcessPlatform) -> None:
    numbers = [*range(10), ENDLESS, *range(10, 20)]
    assert ask(served, SOME) == (200, SOME)
    with ThreadPoolExecutor(len(numbers)) as callers:
        answers = list(callers.map(partial(ask, served), numbers))
    assert answers == [POISON if number == ENDLESS else (200, number) for number in numbers]
    assert ask(served, ENDLESS) == POISON


def test_a_caller_whose_time_was_over_before_does_not_save_it(served: InProcessPlatform) -> None:
    assert ask(served, ENDLESS, timeout_s=0.5) == (504, "deadline_exceeded")
    assert ask(served, 5) == (200, 5)  # it waited until the run was stopped
    assert ask(served, ENDLESS) == POISON


def test_two_callers_at_once_are_both_refused(served: InProcessPlatform) -> None:
    with ThreadPoolExecutor(2) as callers:
        assert list(callers.map(partial(ask, served), [ENDLESS, ENDLESS])) == [POISON] * 2


def test_a_model_may_have_more_time_by_its_spec(tmp_path: Path) -> None:
    with in_process_platform(tmp_path, make=partial(patient_loop, max_run_s=60.0)) as running:
        assert ask(running, MANY) == (200, MANY)


def test_a_model_may_have_less_time_by_its_spec(tmp_path: Path) -> None:
    with in_process_platform(tmp_path, make=partial(patient_loop, max_run_s=0.1)) as running:
        assert ask(running, ENDLESS) == POISON


def test_a_long_run_within_the_limit_is_answered(served: InProcessPlatform) -> None:
    assert ask(served, 10 * SOME) == (200, 10 * SOME)
