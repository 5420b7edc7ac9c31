"""The preprocess pool: bounded, in slices, and never for callers that left; gates hold threads."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from headrace.errors import BadImage, BadRequest, DeadlineExceeded, Overloaded, ShuttingDown
from headrace.replica.pool import PreprocessPool, Work, threads_for
from headrace.telemetry.events import ReplicaEvents
from headrace.telemetry.prometheus import PrometheusReplica
from headrace_models.spec import CharactersSpec, ImageSpec

LONG_S = 10.0


def pool(threads: int = 1, max_waiting: int = 8, **more: Any) -> PreprocessPool:
    return PreprocessPool(threads, max_waiting, ReplicaEvents(), **more)


def work(one: Callable[[Any], Any], *items: Any, nbytes: int = 1) -> Work[Any, Any]:
    return Work(lambda: items, one, len(items), nbytes)


async def do(
    pool: PreprocessPool, one: Callable[[Any], Any], *items: Any, nbytes: int = 1
) -> Sequence[Any]:
    return await pool.do(work(one, *items, nbytes=nbytes), monotonic() + LONG_S)


class Gate:
    """Work that waits until it is let go, and keeps what it did."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.did: list[Any] = []

    def __call__(self, item: Any) -> Any:
        self.did.append(item)
        self.entered.set()
        assert self.opened.wait(LONG_S)
        return item

    async def enter(
        self, pool: PreprocessPool, *items: Any, nbytes: int = 1
    ) -> "asyncio.Task[Sequence[Any]]":
        """A request whose first item is in a thread."""
        asked = asyncio.create_task(do(pool, self, *items, nbytes=nbytes))
        assert await asyncio.to_thread(self.entered.wait, LONG_S)
        return asked


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


class Photo:
    """Something that can be seen to go."""


async def test_what_was_refused_goes_with_its_error_and_waits_for_no_collector() -> None:
    held: list[weakref.ref[Photo]] = []

    def items() -> list[Photo]:
        photos = [Photo(), Photo()]
        held.extend(map(weakref.ref, photos))
        return photos

    def refuse(photo: Photo) -> Photo:
        try:
            raise ValueError(photo)
        except ValueError:
            raise BadImage("no photo") from None

    gc.disable()
    try:
        with pool() as running:
            with pytest.raises(BadImage) as refused:
                await running.do(Work(items, refuse, 2, 2), monotonic() + LONG_S)
            del refused
            await do(running, str, 1)  # by then the thread has let go
    finally:
        gc.enable()
    assert [photo() for photo in held] == [None, None]


async def test_results_come_in_the_order_of_the_items() -> None:
    with pool(3, 100) as threads:
        assert await do(threads, lambda n: n * n, *range(100)) == [n * n for n in range(100)]


async def test_the_items_of_one_request_are_spread_over_the_threads() -> None:
    """In one thread they would wait for each other until the barrier breaks."""
    meet = threading.Barrier(3)
    with pool(3) as threads:
        assert sorted(await do(threads, lambda _: meet.wait(LONG_S), *range(3))) == [0, 1, 2]


async def test_requests_take_turns_however_many_items_one_has(gate: Gate) -> None:
    with pool(1, slice_s=0.0) as threads:
        many = await gate.enter(threads, 1, 2, 3, 4)
        other = asyncio.create_task(do(threads, gate, "other"))
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(many, other)
    assert gate.did == [1, "other", 2, 3, 4]


async def test_a_full_line_refuses_at_once_and_says_when_to_come_back(gate: Gate) -> None:
    with pool(1, 2) as threads:
        await do(threads, str, 1)
        first = await gate.enter(threads, 1)
        waiting = asyncio.create_task(do(threads, gate, 2, 3))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="2 items already wait") as refused:
            await do(threads, gate, 4)
        assert refused.value.retry_after_s
        gate.opened.set()
        await asyncio.gather(first, waiting)
        assert await do(threads, str, 5) == ["5"]


async def test_bytes_are_bounded_too_but_one_request_always_fits(gate: Gate) -> None:
    with pool(max_waiting_bytes=10) as threads:
        first = await gate.enter(threads, 1, nbytes=11)
        with pytest.raises(Overloaded, match="11 bytes already wait"):
            await do(threads, gate, 2, nbytes=1)
        gate.opened.set()
        await first
        assert await do(threads, str, 3, nbytes=11) == ["3"]


async def test_more_items_than_may_ever_wait_are_the_callers_mistake() -> None:
    says = "at most 2 rows, which is all that may wait, found 3"
    with pool(max_waiting=2) as threads, pytest.raises(BadRequest, match=says):
        await do(threads, str, 1, 2, 3)


async def test_what_a_caller_who_left_had_waiting_is_never_done(gate: Gate) -> None:
    with pool() as threads:
        first = await gate.enter(threads, 1)
        left = asyncio.create_task(do(threads, gate, 2, 3))
        await asyncio.sleep(0)
        assert threads.waiting == 2
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert threads.waiting == 0
        gate.opened.set()
        await first
        await do(threads, str, 4)
    assert gate.did == [1]


async def test_a_caller_who_left_in_the_middle_gets_nothing_more_done(gate: Gate) -> None:
    with pool() as threads:
        left = await gate.enter(threads, 1, 2, 3)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        gate.opened.set()
        await do(threads, str, 4)
    assert gate.did == [1]


async def test_nobody_waits_beyond_the_deadline(gate: Gate) -> None:
    with pool() as threads:
        first = await gate.enter(threads, 1)
        with pytest.raises(DeadlineExceeded):
            await threads.do(work(gate, 2), monotonic())
        gate.opened.set()
        await first
        await do(threads, str, 3)
    assert gate.did == [1]


async def test_the_first_bad_item_in_order_is_told_and_the_rest_left_undone() -> None:
    begun = []
    both = threading.Barrier(2)

    def one(item: int) -> int:
        begun.append(item)
        if item < 2:
            both.wait(LONG_S)
            raise BadImage(f"photo {item}")
        return item

    with pool(2) as threads:
        with pytest.raises(BadImage, match="photo 0"):
            await do(threads, one, *range(8))
        assert threads.waiting == 0
    assert sorted(begun)[:2] == [0, 1]
    assert len(begun) < 8


async def test_items_that_cannot_be_read_fail_their_request_alone() -> None:
    def items() -> Sequence[int]:
        raise BadRequest("no items")

    with pool() as threads:
        with pytest.raises(BadRequest, match="no items"):
            await threads.do(Work(items, str, 3, 1), monotonic() + LONG_S)
        assert threads.waiting == 0
        assert await do(threads, str, 1) == ["1"]


async def test_a_pool_that_ends_settles_what_waits(gate: Gate) -> None:
    with pool() as threads:
        asked = [await gate.enter(threads, 1), asyncio.create_task(do(threads, gate, 2))]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ShuttingDown, ShuttingDown]


async def test_what_waits_is_a_metric(gate: Gate) -> None:
    registry = CollectorRegistry()
    with PreprocessPool(1, 8, PrometheusReplica(registry, "m", "1")) as threads:
        first = await gate.enter(threads, 1, 2, 3)
        labels = {"model": "m", "version": "1"}
        assert registry.get_sample_value("headrace_preprocess_waiting", labels) == 2
        gate.opened.set()
        await first
        assert registry.get_sample_value("headrace_preprocess_waiting", labels) == 0


@pytest.mark.parametrize(("cpus", "threads"), [(1, 2), (4, 4), (64, 16)])
def test_photos_have_a_thread_for_each_core(cpus: int, threads: int) -> None:
    spec = ImageSpec(kind="image", output="x", size=2, crop=1.0, mean=0.0, scale=1.0)
    assert threads_for(spec, cpus) == threads


def test_texts_have_one_thread() -> None:
    assert (
        threads_for(CharactersSpec(kind="characters", output="x", alphabet="a", max_chars=3), 8)
        == 1
    )
