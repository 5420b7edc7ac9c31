"""Inputs that end replicas: with replicas of a few lines and a clock of the test's own."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.channel.replicas import TIMES, request
from tests.gateway.router_harness import spec

from headrace.errors import (
    Blame,
    DeadlineExceeded,
    HeadraceError,
    InferenceFailed,
    Overloaded,
    PoisonInput,
    ReplicaLost,
    RunStopped,
)
from headrace.gateway.routing.quarantine import POISON_S, SUSPECT_S, Quarantine
from headrace.inference.request import Answer, Request
from headrace.telemetry.events import GatewayEvents

SPEC = spec()
MOST = 10
LOST, ALONE, BESIDE = (ReplicaLost("lost", 1, blame) for blame in ("possible", "certain", "none"))
STOPPED, STOPPED_ALONE = (RunStopped("stopped", 1, blame) for blame in ("possible", "certain"))


class RecordedEvents(GatewayEvents):
    def __init__(self) -> None:
        self.refused: list[str] = []
        self.retried: list[str] = []
        self.inputs: Callable[[], int] = lambda: -1

    def request_retried(self, model: str) -> None:
        self.retried.append(model)

    def poison_refused(self, model: str) -> None:
        self.refused.append(model)

    def watch_quarantine(self, inputs: Callable[[], int]) -> None:
        self.inputs = inputs


class QuarantineHarness:
    """A quarantine and its one replica; `fate` is the error of the next requests, if any."""

    def __init__(self) -> None:
        self.events = RecordedEvents()
        self.now_s = 1000.0
        self.quarantine = Quarantine(self.events, clock=lambda: self.now_s, most=MOST)
        self.fate: HeadraceError | None = None
        self.fate_alone: HeadraceError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.seen: list[bool] = []

    def send(self, asked: Request) -> Awaitable[Answer]:
        self.seen.append(asked.runs_alone)
        return self._answer(asked)

    async def _answer(self, asked: Request) -> Answer:
        await self.gate.wait()
        if fate := (asked.runs_alone and self.fate_alone) or self.fate:
            raise fate
        return Answer([], TIMES)

    async def ends(
        self, asked: Request, fate: HeadraceError | None = None
    ) -> type[HeadraceError] | None:
        """Send a request; return the kind of its error, None if it is answered."""
        self.fate = fate
        try:
            await self.quarantine.guard(SPEC, asked, lambda: self)
        except HeadraceError as error:
            return type(error)
        return None

    async def poison(self, number: float) -> None:
        assert await self.ends(request(number), LOST) is ReplicaLost
        assert await self.ends(request(number), ALONE) is PoisonInput


@pytest.fixture
def harness() -> QuarantineHarness:
    return QuarantineHarness()


async def test_an_input_that_ended_a_replica_alone_is_refused_and_no_replica_asked(
    harness: QuarantineHarness,
) -> None:
    await harness.poison(1)
    assert harness.seen == [False, True]
    assert [await harness.ends(request(1)) for _ in range(3)] == [PoisonInput] * 3
    assert harness.seen == [False, True]
    assert (harness.events.inputs(), harness.events.refused) == (1, ["tiny"] * 4)


async def test_other_inputs_are_asked_as_ever(harness: QuarantineHarness) -> None:
    await harness.poison(1)
    assert await harness.ends(request(2)) is None
    assert harness.seen[-1] is False


async def test_a_quarantine_ends(harness: QuarantineHarness) -> None:
    await harness.poison(1)
    harness.now_s += POISON_S - 1
    assert await harness.ends(request(1)) is PoisonInput
    harness.now_s += 1
    assert harness.events.inputs() == 0
    assert await harness.ends(request(1)) is None
    assert harness.seen[-1] is False


async def test_a_suspicion_ends(harness: QuarantineHarness) -> None:
    await harness.ends(request(1), LOST)
    harness.now_s += SUSPECT_S
    assert await harness.ends(request(1)) is None
    assert harness.seen == [False, False]


@pytest.mark.parametrize("answer", [None, InferenceFailed("the model failed")])
async def test_a_suspect_that_is_answered_is_cleared(
    harness: QuarantineHarness, answer: HeadraceError | None
) -> None:
    await harness.ends(request(1), LOST)
    await harness.ends(request(1), answer)
    await harness.ends(request(1))
    assert harness.seen == [False, True, False]


@pytest.mark.parametrize("fault", [Overloaded("full", 1), DeadlineExceeded("late"), BESIDE])
async def test_a_suspect_that_was_not_run_stays_one(
    harness: QuarantineHarness, fault: HeadraceError
) -> None:
    await harness.ends(request(1), LOST)
    assert await harness.ends(request(1), fault) is type(fault)
    await harness.ends(request(1))
    assert harness.seen == [False, True, True]


async def test_nothing_is_suspected_where_it_is_known_what_ended_the_replica(
    harness: QuarantineHarness,
) -> None:
    await harness.ends(request(1), BESIDE)
    await harness.ends(request(1))
    assert harness.seen == [False, False]


async def test_equal_suspects_are_tried_one_at_a_time_and_one_verdict_is_all_of_theirs(
    harness: QuarantineHarness,
) -> None:
    """Otherwise many equal requests would end many replicas at once."""
    await harness.ends(request(1), LOST)
    harness.gate.clear()
    asked = [asyncio.create_task(harness.ends(request(1), ALONE)) for _ in range(5)]
    other = asyncio.create_task(harness.ends(request(2), ALONE))
    await asyncio.sleep(0)
    assert harness.seen == [False, True, False]
    harness.gate.set()
    assert await asyncio.gather(*asked) == [PoisonInput] * 5
    assert await other is ReplicaLost
    assert harness.seen == [False, True, False]


async def test_equal_suspects_found_innocent_go_together(harness: QuarantineHarness) -> None:
    await harness.ends(request(1), LOST)
    harness.gate.clear()
    asked = [asyncio.create_task(harness.ends(request(1))) for _ in range(5)]
    await asyncio.sleep(0)
    harness.gate.set()
    assert await asyncio.gather(*asked) == [None] * 5
    assert harness.seen == [False, True, False, False, False, False]


async def test_who_waits_for_a_verdict_does_so_inside_its_deadline(
    harness: QuarantineHarness,
) -> None:
    await harness.ends(request(1), LOST)
    harness.gate.clear()
    tried = asyncio.create_task(harness.ends(request(1)))
    await asyncio.sleep(0)
    assert await harness.ends(request(1, seconds=0.0)) is DeadlineExceeded
    harness.gate.set()
    assert await tried is None


async def test_a_caller_who_leaves_leaves_the_trial_to_the_next(harness: QuarantineHarness) -> None:
    await harness.ends(request(1), LOST)
    harness.gate.clear()
    leaving, staying = (asyncio.create_task(harness.ends(request(1))) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    harness.gate.set()
    assert await staying is None
    assert harness.seen == [False, True, True]


async def test_what_is_remembered_is_bounded(harness: QuarantineHarness) -> None:
    await harness.poison(-1)
    for n in range(MOST):
        await harness.ends(request(n), LOST)
    assert harness.events.inputs() == 0
    assert await harness.ends(request(MOST - 1)) is None
    assert harness.seen[-1] is True


async def test_what_was_alone_in_a_run_that_was_stopped_is_refused_from_then_on(
    harness: QuarantineHarness,
) -> None:
    assert await harness.ends(request(1), STOPPED_ALONE) is PoisonInput
    assert await harness.ends(request(1)) is PoisonInput
    assert (harness.seen, harness.events.inputs(), harness.events.retried) == ([False], 1, [])


async def test_what_was_with_others_in_it_is_repeated_alone_and_then_refused(
    harness: QuarantineHarness,
) -> None:
    harness.fate_alone = STOPPED_ALONE
    assert await harness.ends(request(1), STOPPED) is PoisonInput
    assert (harness.seen, harness.events.retried) == ([False, True], ["tiny"])


async def test_who_was_innocent_in_it_is_answered(harness: QuarantineHarness) -> None:
    class Fair(QuarantineHarness):
        async def _answer(self, asked: Request) -> Answer:
            if asked.runs_alone:
                return Answer([], TIMES)
            return await super()._answer(asked)

    fair = Fair()
    assert await fair.ends(request(1), STOPPED) is None
    assert await fair.ends(request(1)) is None
    assert fair.seen == [False, True, False]


async def test_what_is_stopped_once_more_is_not_repeated_for_ever(
    harness: QuarantineHarness,
) -> None:
    assert await harness.ends(request(1), STOPPED) is RunStopped
    assert harness.seen == [False, True]


@pytest.mark.parametrize(
    ("blame", "outcome"), [("certain", PoisonInput), ("possible", None), ("none", None)]
)
async def test_a_verdict_on_what_nobody_waits_for_any_more_counts(
    harness: QuarantineHarness, blame: Blame, outcome: type[HeadraceError] | None
) -> None:
    harness.quarantine.blame(SPEC, request(1), blame)
    await asyncio.sleep(0)
    assert await harness.ends(request(1)) is outcome
    assert harness.seen == {"certain": [], "possible": [True], "none": [False]}[blame]
