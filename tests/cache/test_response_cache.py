"""Stored and shared answers, on a virtual clock: a model of a few lines replaces the router."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from tests.channel.replicas import TIMES
from tests.gateway.router_harness import spec

from headrace.errors import DeadlineExceeded, HeadraceError, InferenceFailed
from headrace.gateway.routing.response_cache import ResponseCache
from headrace.gateway.routing.version import Version
from headrace.gateway.settings import CacheLimits
from headrace.gateway.wire.infer import Codec
from headrace.inference.request import Answer, Request, SequenceStep
from headrace.inference.tensor import Tensor, from_array, to_array
from headrace.telemetry.events import GatewayEvents

VERSION = Version(spec(), (), Codec(spec(), ()), "onnx")
# What one answer of four bytes takes.
ONE = 512 + 512 + 4


class RecordedEvents(GatewayEvents):
    def __init__(self) -> None:
        self.names: list[str] = []

    def cache_hit(self, model: str) -> None:
        self.names.append("hit" if model == "tiny" else model)

    def cache_missed(self, model: str) -> None:
        self.names.append("miss" if model == "tiny" else model)

    def cache_shared(self, model: str) -> None:
        self.names.append("shared" if model == "tiny" else model)


class CacheHarness:
    """A cache before a model that doubles a number in `takes_s`, inside the deadline, or fails."""

    def __init__(self, max_bytes: int = 1 << 20, stay_s: float = 60.0) -> None:
        self.events = RecordedEvents()
        self.takes_s = 1.0
        self.failure: HeadraceError | None = None
        self.ran: list[float] = []
        self.cancelled = 0
        limits = {"tiny": CacheLimits(cache_bytes=max_bytes, cache_s=stay_s)} if max_bytes else {}
        self.cache = ResponseCache(self._run, limits, self.events, now_s)

    async def _run(self, _: Version, request: Request) -> Answer:
        number = float(to_array(request.inputs[0]).ravel()[0])
        self.ran.append(number)
        try:
            async with asyncio.timeout_at(request.deadline_s):
                await asyncio.sleep(self.takes_s)
        except TimeoutError:
            raise DeadlineExceeded("late") from None
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure:
            raise self.failure
        return Answer([from_array("y", np.array([[2 * number]], np.float32))], TIMES, tokens=4)

    def start(self, number: float, seconds: float = 5.0) -> "asyncio.Task[Answer]":
        return asyncio.create_task(self.cache.get_or_run(VERSION, request(number, seconds)))

    async def get(self, number: float) -> Answer:
        return await self.cache.get_or_run(VERSION, request(number))


def now_s() -> float:
    return asyncio.get_running_loop().time()


def request(number: float, seconds: float = 5.0) -> Request:
    return Request([from_array("x", np.array([[number]], np.float32))], [], now_s() + seconds)


def number_of(answer: Answer) -> float:
    return float(to_array(answer.outputs[0])[0, 0])


async def outcome(asked: "asyncio.Task[Answer]") -> object:
    try:
        return number_of(await asked)
    except HeadraceError as error:
        return type(error)


async def test_an_answer_is_cached_and_says_so() -> None:
    harness = CacheHarness()
    first, second = await harness.get(1), await harness.get(1)
    assert (number_of(second), second.tokens, second.is_cached, first.is_cached) == (
        2,
        4,
        True,
        False,
    )
    assert (sum((second.times.queue_s, second.times.compute_s)), second.times.batch_rows) == (0, 0)
    assert (harness.ran, harness.events.names) == ([1], ["miss", "hit"])


async def test_an_answer_stays_for_its_time() -> None:
    harness = CacheHarness(stay_s=10)
    await harness.get(1)
    await asyncio.sleep(9)
    await harness.get(1)
    await asyncio.sleep(1)
    await harness.get(1)
    assert harness.events.names == ["miss", "hit", "miss"]


async def test_the_least_recently_used_answer_goes_first() -> None:
    harness = CacheHarness(max_bytes=2 * ONE)
    for number in (1, 2, 1, 3):
        await harness.get(number)
    harness.events.names.clear()
    for number in (1, 3, 2):
        await harness.get(number)
    assert harness.events.names == ["hit", "hit", "miss"]


async def test_an_answer_too_large_to_store_is_only_given() -> None:
    harness = CacheHarness(max_bytes=ONE - 1)
    assert [number_of(await harness.get(1)) for _ in range(2)] == [2, 2]
    assert harness.events.names == ["miss", "miss"]


async def test_a_stored_answer_holds_nothing_of_what_was_received_with_it() -> None:
    received = memoryview(bytearray(1 << 20))

    async def run(_: Version, __: Request) -> Answer:
        return Answer([Tensor("y", "FP32", (1, 1), received[:4])], TIMES)

    cache = ResponseCache(run, {"tiny": CacheLimits(cache_bytes=1 << 20)}, GatewayEvents(), now_s)
    await cache.get_or_run(VERSION, request(1))
    stored = await cache.get_or_run(VERSION, request(1))
    assert type(stored.outputs[0].data) is bytes


async def test_without_settings_nothing_is_cached_or_shared() -> None:
    harness = CacheHarness(max_bytes=0)
    await asyncio.gather(harness.get(1), harness.get(1))
    assert (harness.ran, harness.events.names, harness.cache.holds("tiny")) == ([1, 1], [], False)


async def test_steps_of_sequences_are_never_stored() -> None:
    harness = CacheHarness()
    for _ in range(2):
        asked = request(1)
        asked.sequence = SequenceStep("1")
        await harness.cache.get_or_run(VERSION, asked)
    assert (harness.ran, harness.events.names) == ([1, 1], [])


def altered() -> list[Callable[[Request], None]]:
    def shape(r: Request) -> None:
        r.inputs = [Tensor("x", "FP32", (1, 1, 1), r.inputs[0].data)]

    def datatype(r: Request) -> None:
        r.inputs = [Tensor("x", "INT32", (1, 1), r.inputs[0].data)]

    def name(r: Request) -> None:
        r.inputs = [Tensor("z", "FP32", (1, 1), r.inputs[0].data)]

    def outputs(r: Request) -> None:
        r.outputs = ["y"]

    return [shape, datatype, name, outputs]


@pytest.mark.parametrize("alter", altered())
async def test_a_request_that_differs_in_anything_has_an_answer_of_its_own(
    alter: Callable[[Request], None],
) -> None:
    harness = CacheHarness()
    await harness.get(1)
    other = request(1)
    alter(other)
    await harness.cache.get_or_run(VERSION, other)
    assert harness.events.names == ["miss", "miss"]


async def test_what_leaves_the_tensors_as_they_are_makes_no_difference() -> None:
    harness = CacheHarness()
    await harness.get(1)
    other = request(1, 99)
    other.priority, other.request_id, other.key_id = 7, "another", "ann"
    await harness.cache.get_or_run(VERSION, other)
    assert harness.events.names == ["miss", "hit"]


async def test_a_version_with_other_files_has_answers_of_its_own() -> None:
    harness = CacheHarness()
    await harness.get(1)
    changed = spec().model_copy(update={"files": {"m.onnx": "1" * 64, "g.npz": "0" * 64}})
    await harness.cache.get_or_run(Version(changed, (), VERSION.codec, "onnx"), request(1))
    assert harness.events.names == ["miss", "miss"]


async def test_equal_requests_under_way_run_once() -> None:
    harness = CacheHarness()
    answers = await asyncio.gather(*(harness.get(1) for _ in range(5)), harness.get(2))
    assert [number_of(answer) for answer in answers] == [2] * 5 + [4]
    assert sorted(harness.ran) == [1, 2]
    assert sorted(harness.events.names) == ["miss", "miss", *["shared"] * 4]


async def test_a_failure_is_shared_and_not_stored() -> None:
    harness = CacheHarness()
    harness.failure = InferenceFailed("the model failed")
    asked = [harness.start(1) for _ in range(3)]
    assert [await outcome(one) for one in asked] == [InferenceFailed] * 3
    harness.failure = None
    assert number_of(await harness.get(1)) == 2
    assert harness.ran == [1, 1]


async def test_who_waits_does_so_inside_its_own_deadline() -> None:
    harness = CacheHarness()
    leading, hasty = harness.start(1), harness.start(1, seconds=0.5)
    assert await outcome(hasty) is DeadlineExceeded
    assert now_s() == pytest.approx(0.5)
    assert await outcome(leading) == 2


async def test_when_the_leaders_time_is_over_one_that_has_time_leads() -> None:
    harness = CacheHarness()
    asked = [harness.start(1, seconds=0.5), *(harness.start(1) for _ in range(3))]
    assert [await outcome(one) for one in asked] == [DeadlineExceeded, 2, 2, 2]
    assert harness.ran == [1, 1]
    assert now_s() == pytest.approx(1.5)


async def test_when_the_leader_leaves_the_others_are_answered_by_the_same_run() -> None:
    harness = CacheHarness()
    leading, waiting = harness.start(1), harness.start(1)
    await asyncio.sleep(0.5)
    leading.cancel()
    assert await outcome(waiting) == 2
    assert harness.ran == [1]
    assert now_s() == pytest.approx(1.0)


async def test_when_nobody_waits_any_more_the_run_is_withdrawn() -> None:
    harness = CacheHarness()
    asked = [harness.start(1), harness.start(1)]
    await asyncio.sleep(0.5)
    for one in asked:
        one.cancel()
    await asyncio.wait(asked)
    late = harness.start(1)  # who comes in that very turn begins anew
    assert await outcome(late) == 2
    assert (harness.cancelled, harness.ran) == (1, [1, 1])
