"""The threads that turn photos and texts into tensors, and the bounded queue before them."""

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
# A thread turns to the next request after this slice of time: many photos of one delay no other.
SLICE_S = 0.002
_MOST_THREADS = 16
# The weight of the newest item in the mean time of an item.
_NEWEST = 0.1

T = TypeVar("T")
R = TypeVar("R")


def threads_for(spec: RawSpec | None, cpus: int) -> int:
    """The threads to preprocess in: one per core for photos, two at least, and one for texts.

    Pillow lets other threads run while it decodes: two cores decode 690 to 770 photos/s of 0.2
    megapixels in two threads, 390 in one, and no more in three or four. The tokenizer does not: it
    does 3,200 long texts/s in one thread and in two, but 30,000 short ones in one and 13,000 to
    30,000 in two, which contend for the interpreter (docs/gpu.md).
    """
    return min(max(2, cpus), _MOST_THREADS) if spec and spec.releases_interpreter else 1


@dataclass(frozen=True, slots=True)
class Work(Generic[T, R]):
    """The preprocessing that one request needs, in the pool's threads.

    `items` reads its `count` items out of `nbytes` bytes, `one` does one of them.
    """

    items: Callable[[], Sequence[T]]
    one: Callable[[T], R]
    count: int
    nbytes: int


@dataclass(slots=True, eq=False)
class _Job(Generic[T, R]):
    """A work in the pool: items in `todo` until a thread takes them, then in `done` or `failed`."""

    work: Work[T, R]
    result: "asyncio.Future[list[R]]"
    waiting: int
    threads: int = 1  # that work on it, or will
    is_read: bool = False
    is_left: bool = False  # nobody waits for the result any more
    todo: deque[tuple[int, T]] = field(default_factory=deque)
    done: dict[int, R] = field(default_factory=dict)
    failed: dict[int, Exception] = field(default_factory=dict)


class PreprocessPool:
    """Does the items of many requests in threads; enter it to start them, leave it to end them.

    At most `max_waiting` items wait for a thread, and at most `max_waiting_bytes` of requests are
    held; requests beyond that are refused at once. The items of one request are spread over the
    threads, and each request gets a slice of their time in turn.
    """

    def __init__(
        self,
        threads: int,
        max_waiting: int,
        events: ReplicaEvents,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        slice_s: float = SLICE_S,
    ) -> None:
        self._threads = threads
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._events = events
        self._slice_s = slice_s
        self._jobs: set[_Job[Any, Any]] = set()  # of any types, which the callers know
        # For what both threads and the loop change: the counts of each job, and those that follow.
        self._lock = Lock()
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
        """The number of items that no thread has begun."""
        return self._waiting

    async def do(self, work: Work[T, R], deadline_s: float) -> list[R]:
        """The results of the items, in order. `deadline_s` is on the monotonic clock.

        Raises Overloaded at once, BadRequest for more items than may ever wait, DeadlineExceeded,
        ShuttingDown, and the error of the first item that failed. Items of a caller that left are
        not begun.
        """
        job = _Job(work, asyncio.get_running_loop().create_future(), work.count)
        self._admit(job)
        self._executor.submit(self._work_on, job)
        try:
            async with asyncio.timeout(deadline_s - monotonic()):
                return await job.result
        except TimeoutError:
            raise DeadlineExceeded(
                "the deadline passed while the request was preprocessed"
            ) from None
        finally:
            self._leave(job)
            # The job refers to the error, and that to this frame: photos would wait for the
            # collector.
            del job

    def _admit(self, job: _Job[T, R]) -> None:
        count = job.work.count
        nbytes = job.work.nbytes
        if count > self._max_waiting:
            raise BadRequest(
                f"inputs: expected at most {self._max_waiting} rows, which is all that may wait, "
                f"found {count}"
            )
        with self._lock:
            retry_after_s = self._mean_s * self._waiting / self._threads
            if self._waiting + count > self._max_waiting:
                raise Overloaded(
                    f"{self._waiting} items already wait to be preprocessed, "
                    f"at most {self._max_waiting} may",
                    retry_after_s,
                )
            if self._nbytes and self._nbytes + nbytes > self._max_waiting_bytes:
                raise Overloaded(
                    f"{self._nbytes} bytes already wait to be preprocessed, "
                    f"at most {self._max_waiting_bytes} may",
                    retry_after_s,
                )
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

    def _work_on(self, job: _Job[T, R]) -> None:
        """Do items of a job, in a thread; for one slice if other jobs wait."""
        until_s = monotonic() + self._slice_s
        self._read(job)
        while (taken := self._next(job)) is not None:
            self._do_one(job, *taken)
            if len(self._jobs) > 1 and monotonic() >= until_s:
                break
        self._end_slice(job)

    def _read(self, job: _Job[T, R]) -> None:
        """Read the items, in the first slice, and call other threads for them."""
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
            job.threads += max(0, more)
        for _ in range(more):
            self._submit(job)

    def _next(self, job: _Job[T, R]) -> tuple[int, T] | None:
        with self._lock:
            if not job.todo:
                return None
            job.waiting -= 1
            self._waiting -= 1
            return job.todo.popleft()

    def _do_one(self, job: _Job[T, R], index: int, item: T) -> None:
        started_s = monotonic()
        try:
            job.done[index] = job.work.one(item)
        except BaseException as error:  # the tokenizer's panic is not an Exception
            failed = (
                error
                if isinstance(error, Exception)
                else InferenceFailed("the model's preprocessing failed")
            )
            if isinstance(failed, BadRequest):  # others are logged with their frames
                failed.__traceback__ = failed.__context__ = None
            job.failed[index] = failed
            with self._lock:
                job.todo.clear()
        took_s = monotonic() - started_s
        with self._lock:
            self._mean_s += (took_s - self._mean_s) * (_NEWEST if self._mean_s else 1.0)

    def _end_slice(self, job: _Job[T, R]) -> None:
        with self._lock:
            if job.todo:
                self._submit(job)
                return
            job.threads -= 1
            is_done = not job.threads
        if is_done:
            with suppress(RuntimeError):  # the loop has ended, and the caller with it
                job.result.get_loop().call_soon_threadsafe(_resolve, job)

    def _submit(self, job: _Job[T, R]) -> None:
        with suppress(RuntimeError):  # the pool has ended; the job was failed
            self._executor.submit(self._work_on, job)


def _resolve(job: _Job[T, R]) -> None:
    if job.failed:
        _fail(job, job.failed[min(job.failed)])
    elif not job.result.done():
        job.result.set_result([job.done[index] for index in range(len(job.done))])


def _fail(job: _Job[T, R], error: Exception) -> None:
    if not job.result.done():
        job.result.set_exception(error)
