from collections.abc import Callable, Mapping

from loadtests.support.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], VirtualTimeLoop]]:
    """Every test of this folder runs on virtual time."""
    return {"virtual": VirtualTimeLoop}
