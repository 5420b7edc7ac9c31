"""A backend that cannot be stopped: the process reports and ends, and its input is refused."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from tests.channel.replicas import TOKEN, until
from tests.replica.loops import ENDLESS, patient_loop

from headrace.channel import Address
from headrace.errors import HeadraceError, PoisonInput
from headrace.fleet.entries import Fleet, ReplicaEntry
from headrace.gateway.routing.router import Router
from headrace.inference.request import Request
from headrace.inference.tensor import from_array, to_array
from headrace.telemetry.events import GatewayEvents
from headrace_models.repository import read_version

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 30.0


@asynccontextmanager
async def deaf(version: Path, unix: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    command = (sys.executable, "-m", "tests.replica.deaf", str(version), str(unix))
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    try:
        async with asyncio.timeout(TIMEOUT_S):
            assert await process.stdout.readline() == b"listening\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ask(
    router: Router, number: int, timeout_s: float = TIMEOUT_S
) -> int | type[HeadraceError]:
    request = Request([from_array("x", np.full((1, 4), number))], (), monotonic() + timeout_s)
    try:
        answer = await router.dispatch(router.find("loop", None), request)
    except HeadraceError as error:
        return type(error)
    return int(to_array(answer.outputs[0])[0, 0])


def fleet(version: Path, unix: Path, replica: str) -> Fleet:
    spec, address = read_version(version).spec, Address("here", str(unix), "127.0.0.1", 0)
    return Fleet(1, ("loop",), (ReplicaEntry(replica, spec, (), address, "onnx"),), ())


@pytest.mark.slow("starts processes")
async def test_its_process_ends_and_what_it_ran_is_known_to_be_at_fault(tmp_path: Path) -> None:
    version = patient_loop(tmp_path, tmp_path / "repository", max_run_s=0.3)
    unix = tmp_path / "deaf.sock"
    router = Router("here", TOKEN, GatewayEvents())
    async with deaf(version, unix) as process:
        router.update(fleet(version, unix, "one"))
        await router.wait_linked()
        await until(lambda: router.is_ready, TIMEOUT_S)
        assert await ask(router, 5) == 5
        assert await ask(router, ENDLESS) is PoisonInput
        async with asyncio.timeout(TIMEOUT_S):
            assert await process.wait() == -signal.SIGKILL
    async with deaf(version, unix):
        router.update(fleet(version, unix, "two"))
        await until(lambda: router.is_ready, TIMEOUT_S)
        assert await ask(router, ENDLESS) is PoisonInput
        assert await ask(router, 5) == 5
    await router.close()
