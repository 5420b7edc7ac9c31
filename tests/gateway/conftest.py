from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.gateway.towns import Town


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        town = Town(tmp_path, stack)
        stack.push_async_callback(town.router.close)
        yield town
        await town.router.close()
