from collections.abc import Callable, Mapping

from loadtests.support.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], VirtualTimeLoop]]:
    """All tests of this folder run on virtual time; what crosses a local socket takes none."""
    return {"virtual": VirtualTimeLoop}
