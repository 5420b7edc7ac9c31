"""Long work off the event loop: reads and writes large bodies in a few threads of the gateway."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import ParamSpec, TypeVar

from headrace.errors import ClientGone

__all__ = ["INLINE_BYTES", "Offload"]

# Work on no more than this runs on the event loop: waking a thread twice costs more.
INLINE_BYTES = 64 << 10
_THREADS = 2

P = ParamSpec("P")
T = TypeVar("T")


class Offload:
    """The threads. The work that waits for them is bounded by the requests in flight."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="bodies")

    def __enter__(self) -> "Offload":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def __call__(
        self, nbytes: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call the function, in a thread if it works on more than INLINE_BYTES.

        If the caller is cancelled, work that has not begun is dropped, and work that has begun is
        waited for, so that what counts requests in flight counts right.
        """
        if nbytes <= INLINE_BYTES:
            return function(*args, **kwargs)
        # Emptied when the caller is cancelled, as the pool's queue would keep the body.
        work: list[Callable[[], T]] = [partial(function, *args, **kwargs)]
        running = asyncio.get_running_loop().run_in_executor(self._pool, _run, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            work.clear()
            await asyncio.gather(running, return_exceptions=True)
            raise
        finally:
            # It holds an error, which holds this frame, which has the body: a cycle that would stay
            # a while.
            del running


def _run(work: list[Callable[[], T]]) -> T:
    if not work:
        raise ClientGone("the caller left while the work waited")
    return work.pop()()
