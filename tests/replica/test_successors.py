"""Replicas with a real model that go while sequences run, their successors, and gateways."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from tests.channel.replicas import TOKEN, until
from tests.conformance.small_models import make_accumulator

from headrace.channel import Address
from headrace.errors import SequenceLost, SequenceUnknown
from headrace.fleet.entries import Fleet, ReplicaEntry
from headrace.gateway.routing.router import Router
from headrace.inference.request import Request, SequenceStep
from headrace.inference.tensor import from_array, to_array
from headrace.replica.program import ReplicaConfig, ReplicaHandle, serve_replica
from headrace.replica.successors import Successor
from headrace.telemetry.events import GatewayEvents

MODEL = "accumulator"


class Replica:
    """A replica in a task of its own, and who it takes for its successors."""

    def __init__(self, name: str, order: ReplicaConfig) -> None:
        self.name = name
        self.successors: list[Successor] = []
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[ReplicaHandle] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(
            serve_replica(
                order, self._ready.set_result, self._stop, find_successors=self._find_successors
            )
        )

    async def _find_successors(self) -> Sequence[Successor]:
        return self.successors

    async def serving(self) -> ReplicaHandle:
        return await asyncio.wait_for(self._ready, 20)

    async def end(self) -> None:
        """Stop it gracefully, until it has ended."""
        self._stop.set()
        await asyncio.wait_for(self._task, 20)

    async def crash(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class ReplicaCluster:
    """Replicas of the model that sums up, and gateways that know all of them."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._models: dict[str, Path] = {}
        self.replicas: dict[str, Replica] = {}
        self.entries: dict[str, ReplicaEntry] = {}
        self.routers: list[Router] = []

    async def start(self, name: str, version: str = "1", **spec: object) -> Replica:
        if version not in self._models:
            self._models[version] = make_accumulator(
                self._folder, self._folder / "models", version, **spec
            )
        unix = str(self._folder / f"{name}.sock")
        order = ReplicaConfig(str(self._models[version]), "onnx", "here", "127.0.0.1", unix, TOKEN)
        replica = self.replicas[name] = Replica(name, order)
        self._stack.push_async_callback(replica.crash)
        served = await replica.serving()
        self.entries[name] = ReplicaEntry(name, served.version.spec, (), served.address, "onnx")
        await self.tell()
        return replica

    async def gateway(self) -> Router:
        router = Router("here", TOKEN, GatewayEvents())
        self._stack.push_async_callback(router.close)
        self.routers.append(router)
        await self.tell()
        return router

    async def tell(self) -> None:
        for router in self.routers:
            router.update(Fleet(1, (MODEL,), tuple(self.entries.values()), ()))
            await router.wait_linked()
        for name, replica in self.replicas.items():
            others = (entry for entry in self.entries.values() if entry.id != name)
            replica.successors = [
                Successor(entry.id, entry.address, entry.spec.version) for entry in others
            ]

    async def leave(self, name: str) -> None:
        """End it as the platform does: it goes away and leaves the fleet before it drains."""
        served = await self.replicas[name].serving()
        await served.go_away()
        await self.drop(name)
        await self.replicas[name].end()

    async def drop(self, name: str) -> None:
        del self.entries[name]
        await self.tell()
        await asyncio.sleep(0)

    async def open_in(self, name: str) -> int:
        """Read the number of open sequences from a replica's metrics."""
        reader, writer = await asyncio.open_connection(
            *(await self.replicas[name].serving()).metrics.split(":")
        )
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        lines = (await reader.read()).decode().splitlines()
        writer.close()
        return int(
            float(
                next(line for line in lines if line.startswith("headrace_sequences_open{")).split()[
                    -1
                ]
            )
        )


async def step(
    router: Router,
    number: float,
    of: str,
    *,
    starts: bool = False,
    ends: bool = False,
    version: str | None = None,
) -> tuple[str, float]:
    """The version that answered, and the sum."""
    found, sequence = router.find(MODEL, version), SequenceStep(of, starts, ends)
    inputs = [from_array("x", np.array([[number, 0]], np.float32))]
    asked = Request(inputs, (), monotonic() + 10, sequence=sequence)
    if version is not None:
        return version, float(to_array((await router.dispatch(found, asked)).outputs[0])[0, 0])
    answered, answer = await router.dispatch_anywhere(found, asked, sequence)
    return answered.spec.version, float(to_array(answer.outputs[0])[0, 0])


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ReplicaCluster]:
    async with AsyncExitStack() as stack:
        yield ReplicaCluster(tmp_path, stack)


class Stepping:
    """Twenty sequences whose steps add 1, 2, 3, ..., three of each under way at a time."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._goes_on = True
        self.answers: dict[str, list[tuple[str, float]]] = {str(n): [] for n in range(20)}
        self._tasks = [asyncio.create_task(self._run(of)) for of in self.answers]

    async def _run(self, of: str) -> None:
        number = 0
        while self._goes_on:
            burst = (step(self._router, number + n, of, starts=number + n == 0) for n in range(3))
            self.answers[of] += await asyncio.gather(*burst)
            number += 3

    async def until_each_has(self, more: int) -> None:
        """Until every sequence has so many more answers than now; fails at once if a step did."""
        wanted = {of: len(answers) + more for of, answers in self.answers.items()}
        await until(
            lambda: (
                any(t.done() for t in self._tasks)
                or all(len(self.answers[of]) >= n for of, n in wanted.items())
            ),
            20,
        )

    async def end(self) -> None:
        self._goes_on = False
        await asyncio.gather(*self._tasks)

    @property
    def is_uninterrupted(self) -> bool:
        """The sums are those of a run without any handover: none lost, repeated or overtaken."""
        return all(
            [total for _, total in answers] == [n * (n + 1) / 2 for n in range(len(answers))]
            for answers in self.answers.values()
        )


async def test_no_step_is_lost_repeated_or_overtaken_when_one_of_two_replicas_goes(
    cluster: ReplicaCluster,
) -> None:
    await cluster.start("one")
    await cluster.start("two")
    stepping = Stepping(await cluster.gateway())
    await stepping.until_each_has(9)
    assert 0 < await cluster.open_in("one") < 20
    await cluster.leave("one")
    await stepping.until_each_has(9)
    await stepping.end()
    assert stepping.is_uninterrupted
    assert await cluster.open_in("two") == 20


async def test_sequences_go_on_in_a_new_version_which_says_so(cluster: ReplicaCluster) -> None:
    await cluster.start("one")
    stepping = Stepping(await cluster.gateway())
    await stepping.until_each_has(6)
    await cluster.start("two", "2")
    await stepping.until_each_has(6)
    await cluster.leave("one")
    await stepping.until_each_has(6)
    await stepping.end()
    assert stepping.is_uninterrupted
    for answers in stepping.answers.values():
        versions = [version for version, _ in answers]
        assert (versions, {*versions}) == (sorted(versions), {"1", "2"})


async def test_sequences_survive_one_update_after_the_other(cluster: ReplicaCluster) -> None:
    await cluster.start("one")
    stepping = Stepping(await cluster.gateway())
    for n in range(2, 6):
        await cluster.start(f"replica-{n}", str(n))
        await stepping.until_each_has(3)
        await cluster.leave("one" if n == 2 else f"replica-{n - 1}")
    await stepping.end()
    assert stepping.is_uninterrupted


async def test_successors_of_the_same_version_come_first_and_share(cluster: ReplicaCluster) -> None:
    for name, version in (("one", "1"), ("two", "1"), ("three", "1"), ("new", "2")):
        await cluster.start(name, version)
    router = await cluster.gateway()
    for n in range(60):
        await step(router, 1, str(n), starts=True, version="1")
    held = [await cluster.open_in(name) for name in ("two", "three", "new")]
    await cluster.leave("one")
    two, three, new = [await cluster.open_in(name) for name in ("two", "three", "new")]
    assert (two > held[0], three > held[1], two + three, new) == (True, True, 60, 0)


async def test_a_successor_that_refuses_or_is_not_there_is_passed_over(
    cluster: ReplicaCluster,
) -> None:
    one = await cluster.start("one")
    await cluster.start("two", "2", sequence={"max_idle_s": 30})
    router = await cluster.gateway()
    await step(router, 1, "a", starts=True, version="1")
    leaving = await cluster.start("leaving", "3")
    await (await leaving.serving()).go_away()
    one.successors.append(
        replace(
            one.successors[0], id="nobody", address=Address("here", "/nowhere", "", 0), version="4"
        )
    )
    await cluster.leave("one")
    assert await step(router, 2, "a") == ("2", 3)


async def test_a_sequence_that_nobody_takes_is_said_to_be_lost(cluster: ReplicaCluster) -> None:
    await cluster.start("one")
    router = await cluster.gateway()
    await step(router, 1, "a", starts=True)
    leaving = await cluster.start("leaving", "2")
    await (await leaving.serving()).go_away()
    await cluster.leave("one")
    with pytest.raises(SequenceLost):
        await step(router, 2, "a")


async def test_after_a_crash_the_state_is_said_to_be_lost(cluster: ReplicaCluster) -> None:
    one = await cluster.start("one")
    router = await cluster.gateway()
    await step(router, 1, "a", starts=True)
    await cluster.start("two")
    await one.crash()
    await cluster.drop("one")
    with pytest.raises(SequenceLost, match="start it again with sequence_start"):
        await step(router, 2, "a")
    assert await step(router, 3, "a", starts=True) == ("1", 3)


async def test_a_gateway_that_never_saw_a_sequence_finds_it_where_it_went(
    cluster: ReplicaCluster,
) -> None:
    await cluster.start("one")
    first, second = await cluster.gateway(), await cluster.gateway()
    for n in range(10):
        await step(first, 1, str(n), starts=True)
    await cluster.start("two")
    await cluster.start("three", "2")
    assert [await step(second, 1, str(n)) for n in range(5)] == [("1", 2)] * 5
    await cluster.leave("one")
    late = await cluster.gateway()
    assert [await step(late, 1, str(n)) for n in range(5)] == [("1", 3)] * 5
    assert [await step(second, 1, str(n)) for n in range(5, 10)] == [("1", 2)] * 5
    with pytest.raises(SequenceUnknown):
        await step(late, 1, "nobody's")


async def test_a_gateway_that_comes_while_a_replica_goes_learns_where_its_sequences_are(
    cluster: ReplicaCluster,
) -> None:
    await cluster.start("one")
    first = await cluster.gateway()
    await step(first, 1, "a", starts=True)
    await cluster.start("two")
    await (await cluster.replicas["one"].serving()).go_away()
    late = await cluster.gateway()
    assert await step(late, 2, "a") == ("1", 3)


async def test_a_path_that_names_a_version_stays_in_it(cluster: ReplicaCluster) -> None:
    await cluster.start("one")
    router = await cluster.gateway()
    await step(router, 1, "a", starts=True, version="1")
    await cluster.start("two", "2")
    await (await cluster.replicas["one"].serving()).go_away()
    with pytest.raises(SequenceLost, match="moved to another version"):
        await step(router, 2, "a", version="1")
    assert await step(router, 4, "a", version="2") == ("2", 5)


async def test_a_replica_that_goes_starts_nothing_new_but_steps_on_until_then(
    cluster: ReplicaCluster,
) -> None:
    one = await cluster.start("one")
    router = await cluster.gateway()
    await step(router, 1, "a", starts=True)
    one.successors = []
    await (await one.serving()).go_away()
    assert await step(router, 2, "a") == ("1", 3)
    await cluster.start("two")
    assert await step(router, 8, "b", starts=True) == ("1", 8)
    assert (await cluster.open_in("one"), await cluster.open_in("two")) == (1, 1)


async def test_between_nodes_sequences_go_over_tcp(cluster: ReplicaCluster) -> None:
    one = await cluster.start("one")
    router = await cluster.gateway()
    await step(router, 1, "a", starts=True)
    await cluster.start("two")
    one.successors = [
        replace(successor, address=replace(successor.address, node="there"))
        for successor in one.successors
    ]
    await cluster.leave("one")
    assert await step(router, 2, "a") == ("1", 3)
