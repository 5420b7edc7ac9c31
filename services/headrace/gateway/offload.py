"""Long work off the event loop: reading and writing large bodies in a few threads of the gateway's own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from headrace.errors import ClientGone

__all__ = ["INLINE_BYTES", "Offload"]

# Work on less than this is done where it is asked for: waking a thread twice costs more.
INLINE_BYTES = 64 << 10
_THREADS = 2

T = TypeVar("T")


class Offload:
    """The threads; what waits for them is bounded by the requests that may be in flight."""

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

    async def __call__(self, nbytes: int, function: Callable[..., T], *arguments: object) -> T:
        """The function's result; in a thread if it works on more than INLINE_BYTES.

        A caller who leaves has its turn taken out of the line; one that has begun is waited for, so that whoever
        counts what is in flight counts right.
        """
        if nbytes <= INLINE_BYTES:
            return function(*arguments)
        work = [
            (function, arguments)
        ]  # emptied by a caller who leaves: the line would keep its body else
        running = asyncio.get_running_loop().run_in_executor(self._pool, _do, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            work.clear()
            await asyncio.gather(running, return_exceptions=True)
            raise
        finally:
            del running  # it holds an error, which holds this frame, which has the body: a ring that would stay a while


def _do(work: list[tuple[Callable[..., T], tuple[object, ...]]]) -> T:
    if not work:
        raise ClientGone("the caller left while the work waited")
    function, arguments = work.pop()
    return function(*arguments)
