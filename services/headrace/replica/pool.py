"""Threads that turn photos and texts into tensors, and the bounded line before them."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from types import TracebackType
from typing import Any, Generic, TypeVar

from headrace.errors import BadRequest, DeadlineExceeded, InferenceFailed, Overloaded, ShuttingDown
from headrace.telemetry.events import ReplicaEvents
from headrace_models.spec import RawSpec

__all__ = ["PreprocessPool", "Work", "threads_for"]

MAX_WAITING_BYTES = 256 << 20
# A thread gives its turn to the next request after so long: many photos of one hold no other one up.
TURN_S = 0.002
_MOST_THREADS = 16
# How much of the mean time of an item is the newest one's.
_NEWEST = 0.1

T = TypeVar("T")
R = TypeVar("R")


def threads_for(spec: RawSpec | None, cpus: int) -> int:
    """Photos: a thread for each of the replica's cores, and two at least. Texts: one.

    Pillow lets other threads run while it decodes: on two cores 690 to 770 photos/s of 0.2 megapixels in two threads,
    390 in one, no more in three or four. The tokenizer does not: 3,200 long texts/s in one thread and in two, and
    30,000 short ones in one, 13,000 to 30,000 in two, which take the interpreter from each other (docs/gpu.md).
    """
    return min(max(2, cpus), _MOST_THREADS) if spec and spec.releases_interpreter else 1


@dataclass(frozen=True, slots=True)
class Work(Generic[T, R]):
    """What a request has to be done: `items` reads its `count` items out of `nbytes` bytes, `one` does one of them.

    Both are called in the pool's threads.
    """

    items: Callable[[], Sequence[T]]
    one: Callable[[T], R]
    count: int
    nbytes: int


@dataclass(slots=True, eq=False)
class _Job(Generic[T, R]):
    """A work in the pool. Its items are in `todo` until a thread takes them; what came of them is in `done`."""

    work: Work[T, R]
    settled: "asyncio.Future[list[R]]"
    waiting: int
    turns: int = 1
    is_read: bool = False
    is_left: bool = False
    todo: deque[tuple[int, T]] = field(default_factory=deque)
    done: dict[int, R] = field(default_factory=dict)
    failed: dict[int, Exception] = field(default_factory=dict)


class PreprocessPool:
    """Does the items of many requests in `threads` threads; enter it to start them, leave it to end them.

    At most `max_waiting` items wait for a thread, and at most `max_waiting_bytes` of requests are held; a request
    beyond that is refused at once. The items of one request are spread over the threads, and requests take turns.
    """

    def __init__(
        self,
        threads: int,
        max_waiting: int,
        events: ReplicaEvents,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        turn_s: float = TURN_S,
    ) -> None:
        self._threads = threads
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._events = events
        self._turn_s = turn_s
        self._jobs: set[_Job[Any, Any]] = (
            set()
        )  # of every type: what they do is the callers' business
        self._lock = (
            Lock()
        )  # of what threads and the loop change: the counts of each job, and these
        self._waiting = 0
        self._nbytes = 0
        self._mean_s = 0.0

    def __enter__(self) -> "PreprocessPool":
        self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="preprocess")
        self._events.watch_preprocess(lambda: self._waiting)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        for job in self._jobs:
            _fail(job, ShuttingDown("the model is shutting down", retry_after_s=1))

    @property
    def waiting(self) -> int:
        """The items that no thread has begun."""
        return self._waiting

    async def do(self, work: Work[T, R], deadline_s: float) -> list[R]:
        """What came of the items, in order. `deadline_s` is on the monotonic clock.

        Raises Overloaded at once, BadRequest for more items than may wait at all, DeadlineExceeded, ShuttingDown, and
        what the first item that failed raised. Items that nobody wants any more are not begun.
        """
        job = _Job(work, asyncio.get_running_loop().create_future(), work.count)
        self._admit(job)
        self._executor.submit(self._take_turn, job)
        try:
            async with asyncio.timeout(deadline_s - monotonic()):
                return await job.settled
        except TimeoutError:
            raise DeadlineExceeded(
                "the deadline passed while the request was preprocessed"
            ) from None
        finally:
            self._leave(job)
            # It has the error, and that this frame: photos would stay until the collector comes.
            del job

    def _admit(self, job: _Job[T, R]) -> None:
        count, nbytes = job.work.count, job.work.nbytes
        if count > self._max_waiting:
            raise BadRequest(
                f"inputs: expected at most {self._max_waiting} rows, which is all that may wait, found {count}"
            )
        with self._lock:
            retry_after_s = self._mean_s * self._waiting / self._threads
            if self._waiting + count > self._max_waiting:
                found = f"{self._waiting} items wait already to be preprocessed, at most {self._max_waiting}"
                raise Overloaded(found, retry_after_s)
            if self._nbytes and self._nbytes + nbytes > self._max_waiting_bytes:
                found = f"{self._nbytes} bytes wait already to be preprocessed, at most {self._max_waiting_bytes}"
                raise Overloaded(found, retry_after_s)
            self._waiting += count
            self._nbytes += nbytes
        self._jobs.add(job)

    def _leave(self, job: _Job[T, R]) -> None:
        with self._lock:
            job.is_left = True
            job.todo.clear()
            self._waiting -= job.waiting
            self._nbytes -= job.work.nbytes
            job.waiting = 0
        self._jobs.discard(job)

    def _take_turn(self, job: _Job[T, R]) -> None:
        """Do items of a job, in a thread; while others wait, for one turn. Whoever ends the job tells it."""
        until_s = monotonic() + self._turn_s
        self._read(job)
        while (taken := self._next(job)) is not None:
            self._do_one(job, *taken)
            if len(self._jobs) > 1 and monotonic() >= until_s:
                break
        self._end_turn(job)

    def _read(self, job: _Job[T, R]) -> None:
        """The first turn reads the items, and calls other threads for them."""
        if job.is_read or job.is_left:
            return
        job.is_read = True
        try:
            items = job.work.items()
        except Exception as error:
            job.failed[0] = error
            return
        with self._lock:
            job.todo.extend([] if job.is_left else enumerate(items))
            more = min(self._threads, len(job.todo)) - 1
            job.turns += max(0, more)
        for _ in range(more):
            self._submit(job)

    def _next(self, job: _Job[T, R]) -> tuple[int, T] | None:
        with self._lock:
            if not job.todo:
                return None
            job.waiting -= 1
            self._waiting -= 1
            return job.todo.popleft()

    def _do_one(self, job: _Job[T, R], place: int, item: T) -> None:
        started_s = monotonic()
        try:
            job.done[place] = job.work.one(item)
        except BaseException as error:  # a panic of the tokenizer's is no Exception
            failed = (
                error
                if isinstance(error, Exception)
                else InferenceFailed("the model's preprocessing failed")
            )
            if isinstance(failed, BadRequest):  # all else is logged with its frames
                failed.__traceback__ = failed.__context__ = None
            job.failed[place] = failed
            with self._lock:
                job.todo.clear()
        took_s = monotonic() - started_s
        with self._lock:
            self._mean_s += (took_s - self._mean_s) * (_NEWEST if self._mean_s else 1.0)

    def _end_turn(self, job: _Job[T, R]) -> None:
        with self._lock:
            if is_more := bool(job.todo):
                self._submit(job)
            else:
                job.turns -= 1
        if not is_more and not job.turns:
            with suppress(RuntimeError):  # the loop has ended, and with it whoever asked
                job.settled.get_loop().call_soon_threadsafe(_settle, job)

    def _submit(self, job: _Job[T, R]) -> None:
        with suppress(RuntimeError):  # the pool has ended; the job was failed
            self._executor.submit(self._take_turn, job)


def _settle(job: _Job[T, R]) -> None:
    if job.failed:
        _fail(job, job.failed[min(job.failed)])
    elif not job.settled.done():
        job.settled.set_result([job.done[place] for place in range(len(job.done))])


def _fail(job: _Job[T, R], error: Exception) -> None:
    if not job.settled.done():
        job.settled.set_exception(error)
