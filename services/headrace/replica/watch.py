"""The watch over a model's runs: one that takes far too long is stopped, or this process is ended.

A thread looks at the runs several times a second, even while one holds the event loop. It counts
the CPU time of the thread that runs, which a busy machine does not inflate. A run that sleeps for
ever, or whose work is a GPU's, is convicted by elapsed time alone, six times later. Time in which
the watch itself did not run (the process was stopped, the machine slept) does not count.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Literal

from headrace.backends import Backend, Stoppable

__all__ = ["LEAST_S", "LOOK_S", "Run", "Watch"]

log = logging.getLogger(__name__)

LOOK_S = 0.2
# A run may take this many times its expected time, and always LEAST_S of CPU time.
_TIMES_EXPECTED = 10.0
LEAST_S = 1.5
# Elapsed time alone convicts at this many times the limit.
_ELAPSED_TIMES = 6.0
# A run is useless when the latest deadline of its batch is this long past.
_LATE_S = 0.5
# One that has taken this share of its limit by then is odd: it gets some seconds more, to show
# whether it is endless. Otherwise its input could be sent again and again.
_ODD = 0.2
_ODD_LATE_S = 5.0
# The time that a run may take after it was told to stop.
_OBEY_S = 1.0
# The time that the process lives on to report which requests were in the run.
_LAST_WORDS_S = 0.5


class Run:
    """One run of a batch; enter it in its thread. `cause` is set if it was told to stop."""

    __slots__ = (
        "_watch",
        "cause",
        "clock_id",
        "cpu_s",
        "elapsed_s",
        "is_doomed",
        "late_s",
        "limit_s",
        "thread",
        "told_at",
    )

    def __init__(self, watch: "Watch", limit_s: float, late_s: float) -> None:
        self._watch = watch
        self.limit_s = limit_s
        self.late_s = late_s
        self.cause: Literal["endless", "late"] | None = None
        self.is_doomed = False  # the process ends for it
        self.thread = 0
        self.clock_id = 0
        self.cpu_s: float | None = None  # the thread's clock when the watch first saw the run
        self.elapsed_s = 0.0
        self.told_at = (0.0, 0.0)  # CPU time and elapsed time when it was told to stop

    def __enter__(self) -> "Run":
        self.thread = threading.get_ident()
        self.clock_id = time.pthread_getcpuclockid(self.thread)
        self._watch.runs.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watch.runs.discard(self)
        if self.cause:
            # The watch may be about to stop this thread's run, which must not be the next one.
            self._watch.wait_for_look()


class Watch:
    """Looks at the runs of a backend. Enter it to start its thread; tests may call `look`.

    `last_words` is called, in the watch's thread, with the run for which `end` ends the process
    soon.
    """

    def __init__(
        self,
        backend: Backend,
        last_words: Callable[[Run], None],
        max_run_s: float | None = None,
        clock: Callable[[], float] = monotonic,
        cpu_clock: Callable[[int], float] = time.clock_gettime,
        end: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL),
        last_words_s: float = _LAST_WORDS_S,
    ) -> None:
        self._stop = backend.stop if isinstance(backend, Stoppable) else None
        self._last_words = last_words
        self._max_run_s = max_run_s
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._end = end
        self._last_words_s = last_words_s
        self.runs: set[Run] = set()
        self._looked_s = clock()
        self._looking = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join(LOOK_S)

    @property
    def may_hold_the_loop(self) -> bool:
        """True if a short run may hold the event loop: if it does not end, it is stopped soon."""
        return self._stop is not None and (self._max_run_s or 0.0) <= LEAST_S

    def run(self, expected_s: float, deadline_s: float, now_s: float) -> Run:
        """A new run. `deadline_s` is the latest deadline of its batch."""
        limit_s = self._max_run_s or max(LEAST_S, _TIMES_EXPECTED * expected_s)
        return Run(self, limit_s, max(deadline_s + _LATE_S, now_s + LEAST_S))

    def wait_for_look(self) -> None:
        """Wait until no run is being stopped."""
        with self._looking:
            pass

    def look(self) -> None:
        """Judge all present runs once."""
        now_s = self._clock()
        elapsed_s = min(now_s - self._looked_s, 2 * LOOK_S)
        self._looked_s = now_s
        for run in list(self.runs):
            with self._looking:
                is_doomed = self._judge(run, elapsed_s, now_s)
            if is_doomed:
                self._end_for(run)

    def _keep_looking(self) -> None:
        while not self._over.wait(LOOK_S):
            try:
                self.look()
            except Exception:
                log.exception("the watch failed at a look")

    def _judge(self, run: Run, elapsed_s: float, now_s: float) -> bool:
        """Stop a run that is over its limit, or late; True if the process must end for it."""
        cpu_s = self._cpu_clock(run.clock_id)
        if run.cpu_s is None:
            run.cpu_s = cpu_s
            return False
        run.elapsed_s += elapsed_s
        spent = (cpu_s - run.cpu_s, run.elapsed_s)
        is_endless = _is_over(spent, (0.0, 0.0), run.limit_s)
        if self._stop is None:
            return is_endless
        is_odd = _is_over(spent, (0.0, 0.0), _ODD * run.limit_s)
        if not (is_endless or now_s >= run.late_s + (_ODD_LATE_S if is_odd else 0.0)):
            return False
        if run.cause is None:
            run.told_at = spent
        if is_endless or run.cause is None:
            run.cause = "endless" if is_endless else "late"
        # Its thread leaves `runs` first and asks for the cause then, so its next run is not
        # stopped.
        if run in self.runs:
            self._stop(run.thread)
        return is_endless and _is_over(spent, run.told_at, _OBEY_S)

    def _end_for(self, run: Run) -> None:
        log.critical("a run of the model does not end, and cannot be stopped: this process ends")
        run.cause = "endless"
        run.is_doomed = True
        self._last_words(run)
        self._over.wait(self._last_words_s)
        self._end()


def _is_over(spent: tuple[float, float], since: tuple[float, float], limit_s: float) -> bool:
    """True if `limit_s` of CPU time, or _ELAPSED_TIMES as much time, has passed since."""
    return spent[0] - since[0] >= limit_s or spent[1] - since[1] >= _ELAPSED_TIMES * limit_s
