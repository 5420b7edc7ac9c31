import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests of the lifeline run on its real loop."""
    return {"uvloop": uvloop.new_event_loop}
