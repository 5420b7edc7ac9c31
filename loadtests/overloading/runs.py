"""Tools that the measurements share: driver processes, and a bar of their progress."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from time import monotonic
from typing import TypeVar

from loadtests.overloading.driver import Record, Stream, drive
from rich.progress import Progress

__all__ = ["Run", "drivers"]

_DRIVERS = 2
# Until the first request is due: the drivers encode all of them and open their connections before.
_LEAD_S = 2.0
_LOOK_S = 0.2
_MOST_BEYOND_S = 60.0

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """`seconds` is how long a phase takes; `deadline_s` what each request allows."""

    seconds: float
    deadline_s: float
    progress: Progress
    pool: Executor

    def drive(self, what: str, streams: Sequence[Stream], lead_s: float = _LEAD_S) -> list[Record]:
        """Drive them all at the same time, each in a process of its own."""
        start_s = monotonic() + lead_s
        lasts_s = lead_s + max(float(stream.due_s[-1]) for stream in streams)
        return self._watch(
            what, lasts_s, [self.pool.submit(drive, stream, start_s) for stream in streams]
        )

    def call(self, what: str, lasts_s: float, work: Callable[..., T], *arguments: object) -> T:
        """Run `work` in a driver's process."""
        return self._watch(what, lasts_s, [self.pool.submit(work, *arguments)])[0]

    def _watch(self, what: str, lasts_s: float, futures: Sequence[Future[T]]) -> list[T]:
        task, began_s = self.progress.add_task(what, total=lasts_s), monotonic()
        while wait(futures, _LOOK_S).not_done:
            took_s = monotonic() - began_s
            if took_s > lasts_s + _MOST_BEYOND_S:
                raise TimeoutError(f"{what}: the driver did not end in time")
            self.progress.update(task, completed=min(took_s, lasts_s))
        self.progress.update(task, completed=lasts_s)
        return [future.result() for future in futures]


@contextmanager
def drivers() -> Iterator[Executor]:
    """Processes that have started and imported what driving needs."""
    with ProcessPoolExecutor(_DRIVERS, get_context("spawn")) as pool:
        for ready in [pool.submit(monotonic) for _ in range(_DRIVERS)]:
            ready.result(_MOST_BEYOND_S)
        yield pool
