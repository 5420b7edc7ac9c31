import asyncio
from collections.abc import Callable, Mapping

import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The lifeline is tested on the loop that it runs on."""
    return {"uvloop": uvloop.new_event_loop}
