"""The search of a failed batch on a virtual clock: many short runs are no endless one."""

import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.replica.machine import ENDLESS, FAILING, GOOD, REFUSED, Machine

from headrace.batching import CostModel
from headrace.errors import BadRequest, InferenceFailed, RunStopped
from headrace.inference.request import Request
from headrace.inference.tensor import Array
from headrace.replica.batches import Batches, Piece
from headrace.replica.runner import PartResult, Runner
from headrace.telemetry.events import ReplicaEvents
from headrace_models.spec import InputSpec, ModelSpec, OutputSpec

SPEC = ModelSpec(
    name="m",
    version="1",
    weights={"onnx": "m.onnx"},
    golden="g.npz",
    inputs=(InputSpec(name="x", datatype="INT64", shape=()),),
    outputs=(OutputSpec(name="y", datatype="INT64", shape=()),),
    files={"m.onnx": "0" * 64, "g.npz": "0" * 64},
)
EXPECTED: Mapping[int, type] = {
    GOOD: PartResult,
    REFUSED: BadRequest,
    FAILING: InferenceFailed,
    ENDLESS: RunStopped,
}
SEARCH_TIMES = 30


def told(machine: Machine, kinds: Sequence[int], deadline_s: float = float("inf")) -> list[type]:
    """The results of one batch. If a run is stopped, the gateway repeats each request alone."""
    runner, tries = Runner(machine, SPEC), machine.tries(len(kinds), deadline_s)
    try:
        return [
            type(result)
            for result in runner.run([{"x": np.array([kind])} for kind in kinds], tries)
        ]
    except RunStopped:
        assert (tries.cause, ENDLESS in kinds) == ("endless", True)
        return [RunStopped] if len(kinds) == 1 else [told(machine, [kind])[0] for kind in kinds]


def right(kinds: Sequence[int]) -> list[type]:
    return [EXPECTED[kind] for kind in kinds]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([GOOD, GOOD, REFUSED, FAILING, ENDLESS]), min_size=1, max_size=64),
    st.permutations([ENDLESS, FAILING, REFUSED]),
    st.sampled_from([0.02, 0.1, 0.2]),
    st.sampled_from([0.01, 0.3, 2.0]),
)
def test_in_any_company_each_is_told_what_it_would_be_alone(
    kinds: list[int], worst: list[int], base_share: float, batch_s: float
) -> None:
    base_s = base_share * batch_s
    machine = Machine(base_s, (batch_s - base_s) / len(kinds), tuple(worst))
    assert told(machine, kinds) == right(kinds)


@pytest.mark.parametrize("kind", [REFUSED, FAILING])
def test_a_batch_of_bad_ones_alone_is_never_taken_for_an_endless_one(kind: int) -> None:
    machine = Machine(base_s=0.03, row_s=0.004)
    assert told(machine, [kind] * 64) == right([kind] * 64)
    assert machine.now_s > 10 * machine.seconds(64)


def test_two_failures_among_refused_ones_harm_no_good_one() -> None:
    for seed in range(100):
        kinds = (
            np.random.default_rng(seed)
            .permutation([FAILING] * 2 + [REFUSED] * 12 + [GOOD] * 50)
            .tolist()
        )
        assert told(Machine(base_s=0.03, row_s=0.004), kinds) == right(kinds)


def test_what_does_not_end_is_stopped_as_soon_in_a_search_as_in_the_first_run() -> None:
    machine = Machine(base_s=0.03, row_s=0.004, worst=(REFUSED, ENDLESS))
    kinds = [GOOD] * 30 + [REFUSED] + [ENDLESS] + [GOOD] * 32
    runner, tries = Runner(machine, SPEC), machine.tries(len(kinds))
    with pytest.raises(RunStopped):
        runner.run([{"x": np.array([kind])} for kind in kinds], tries)
    limit_s = 10 * machine.seconds(64)
    assert tries.cause == "endless"
    assert tries.count > 2
    assert machine.now_s < limit_s + 5 * machine.seconds(64)


@settings(deadline=None)
@given(st.integers(2, 300), st.floats(0.1, 1.0), st.floats(0.001, 3.0))
def test_a_search_has_an_end_and_what_ran_by_then_is_told_the_truth(
    size: int, base_share: float, batch_s: float
) -> None:
    base_s = base_share * batch_s
    machine = Machine(base_s, (batch_s - base_s) / size)
    kinds = [GOOD if n % 3 else REFUSED for n in range(size)]
    answers = told(machine, kinds)
    assert machine.now_s <= max(1.5, SEARCH_TIMES * batch_s) + 1.01 * batch_s
    ran = [
        (answer, true)
        for answer, true in zip(answers, right(kinds), strict=True)
        if answer is not InferenceFailed
    ]
    assert ran
    assert all(answer is true for answer, true in ran)


def test_a_search_is_over_when_its_callers_time_is() -> None:
    machine = Machine(base_s=0.5, row_s=0.001)
    answers = told(machine, [REFUSED] * 64, deadline_s=3.0)
    assert set(answers) == {BadRequest, InferenceFailed}
    assert machine.now_s <= 3.0 + machine.seconds(64)


class Alone:
    """A model that breaks in company."""

    device = "cpu"
    lanes = 1

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        if len(inputs["x"]) > 1:
            raise ValueError("cannot be reshaped")
        return {"y": inputs["x"]}


def test_a_model_that_breaks_only_in_company_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runner, machine = Runner(Alone(), SPEC), Machine(0.0, 0.0)
    for _ in range(3):
        results = runner.run([{"x": np.array([n])} for n in range(64)], machine.tries(64))
        assert [
            one.outputs["y"].tolist() if isinstance(one, PartResult) else one for one in results
        ] == [[n] for n in range(64)]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert re.search(
        r"64 requests failed together \(.*\), and none in smaller batches", record.message
    )


def test_who_fails_alone_is_no_sign_of_it(caplog: pytest.LogCaptureFixture) -> None:
    assert told(Machine(0.0, 0.0), [GOOD, REFUSED, GOOD]) == right([GOOD, REFUSED, GOOD])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


class Repeats(ReplicaEvents):
    def __init__(self) -> None:
        self.runs: list[int] = []

    def batch_repeated(self, runs: int) -> None:
        self.runs.append(runs)


async def test_only_a_batch_that_ran_once_says_what_batches_take_and_further_runs_are_counted() -> (
    None
):
    events, machine = Repeats(), Machine(0.0, 0.0)
    request = Request((), (), monotonic() + 60)
    with ThreadPoolExecutor(1) as executor:
        batches = Batches(machine, SPEC, executor, CostModel(), events)

        async def run(*kinds: int) -> float:
            await batches.run([Piece({"x": np.array([kind])}, 1, 1, request) for kind in kinds])
            return batches.past_runs.at_most_s(len(kinds), 1, 0.0)

        assert await run(GOOD, REFUSED, GOOD) == 0.0
        assert events.runs == [machine.runs - 1]
        assert await run(GOOD, GOOD, GOOD) > 0.0
        assert len(events.runs) == 1
