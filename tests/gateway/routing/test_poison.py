"""Requests that end the process they run in, with real processes."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.channel.replicas import doubled, request, until
from tests.gateway.crashing_replica import POISON, STATUS
from tests.gateway.router_harness import RouterHarness, spec

from headrace.channel import Address
from headrace.errors import HeadraceError, PoisonInput, RunStopped
from headrace.fleet.entries import ReplicaEntry

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 30.0


@asynccontextmanager
async def crashing_replica(
    harness: RouterHarness, unix: Path, rows: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a replica that takes batches of `rows` in a process, once the router uses it."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "tests.gateway.crashing_replica", str(unix), str(rows))
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe)
    assert process.stdin
    assert process.stdout
    try:
        async with asyncio.timeout(TIMEOUT_S):
            assert await process.stdout.readline() == b"listening\n"
        harness.entries.append(
            ReplicaEntry(unix.name, spec(), (), Address("here", str(unix), "127.0.0.1", 0), "onnx")
        )
        harness.update(harness.entries)
        await until(lambda: harness.is_ready("1", unix.name))
        yield process
    finally:
        process.stdin.close()
        async with asyncio.timeout(TIMEOUT_S):
            await process.wait()


def let_try(process: asyncio.subprocess.Process) -> None:
    assert process.stdin
    process.stdin.write(b"!")


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(TIMEOUT_S):
        return await process.wait()


async def outcome(harness: RouterHarness, number: float) -> float | type[HeadraceError]:
    try:
        return await harness.dispatch(request(number, seconds=TIMEOUT_S))
    except HeadraceError as error:
        return type(error)


async def test_a_poison_costs_two_processes_and_its_nineteen_neighbours_nothing(
    harness: RouterHarness, tmp_path: Path
) -> None:
    """Two replicas have ten requests each: one is lost and replaced, then the other, which tries
    the poison alone.
    """
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(crashing_replica(harness, tmp_path / name, 10))
            for name in "ab"
        ]
        asked = [asyncio.create_task(outcome(harness, n)) for n in range(20)]
        lost, other = await first_of(first, second)
        third = await stack.enter_async_context(crashing_replica(harness, tmp_path / "c", 1))
        let_try(third)
        let_try(other)
        answers = await asyncio.gather(*asked)
        assert answers == [PoisonInput if n == POISON else 2.0 * n for n in range(20)]
        assert [await ended(process) for process in (lost, other)] == [STATUS] * 2
        assert await outcome(harness, POISON) is PoisonInput
        assert await outcome(harness, 1) == 2
        assert third.returncode is None


async def first_of(
    one: asyncio.subprocess.Process, two: asyncio.subprocess.Process
) -> tuple[asyncio.subprocess.Process, asyncio.subprocess.Process]:
    """The process that ends first, and the other."""
    waits = {
        asyncio.create_task(one.wait()): (one, two),
        asyncio.create_task(two.wait()): (two, one),
    }
    done, rest = await asyncio.wait(waits, timeout=TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    return waits[done.pop()]


async def test_what_one_gateway_learns_of_a_stopped_run_all_know(harness: RouterHarness) -> None:
    replica, other = await harness.start(), await harness.another_gateway()
    await until(lambda: len(replica.channel.peers) == 2 and other.is_ready)
    replica.service.failure = RunStopped("stopped", 1, "certain")
    assert await outcome(harness, POISON) is PoisonInput
    replica.service.failure = None
    for number, ends in ((1.0, 2.0), (POISON, PoisonInput)):
        try:
            found: object = doubled(await other.dispatch(other.find("tiny", None), request(number)))
        except HeadraceError as error:
            found = type(error)
        assert found == ends
    assert len(replica.service.requests) == 2
