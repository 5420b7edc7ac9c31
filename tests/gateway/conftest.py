from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.gateway.router_harness import RouterHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[RouterHarness]:
    async with AsyncExitStack() as stack:
        harness = RouterHarness(tmp_path, stack)
        stack.push_async_callback(harness.router.close)
        yield harness
        await harness.router.close()
