from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from loadtests.support.virtual_time import VirtualTimeLoop
from tests.gateway.router_harness import RouterHarness

MAX_WAITING = 200


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], VirtualTimeLoop]]:
    """Run the tests of this folder on virtual time; sockets of the process take none."""
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[RouterHarness]:
    async with AsyncExitStack() as stack:
        harness = RouterHarness(tmp_path, stack, MAX_WAITING)
        stack.push_async_callback(harness.router.close)
        yield harness
        await harness.router.close()
