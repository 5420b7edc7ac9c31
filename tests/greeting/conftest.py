from collections.abc import Callable, Mapping

from loadtests.support.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], VirtualTimeLoop]]:
    """Every test of this folder runs on virtual time; what crosses a socket of the process takes none."""
    return {"virtual": VirtualTimeLoop}
