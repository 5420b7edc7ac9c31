from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from loadtests.support.virtual_time import VirtualTimeLoop
from tests.gateway.towns import Town

MAX_WAITING = 200


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], VirtualTimeLoop]]:
    """Every test of this folder runs on virtual time; what crosses a socket of the process takes none."""
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        town = Town(tmp_path, stack, MAX_WAITING)
        stack.push_async_callback(town.router.close)
        yield town
        await town.router.close()
