"""An end to every run of a model: one that takes far too long is stopped, or else this process is ended.

A thread looks at what runs, some times a second, also while a run holds the event loop. What counts is the CPU time of
the thread that runs, which a machine that is too busy does not inflate. A run that sleeps for ever, or whose work is a
GPU's, is convicted by the time that passed alone, six times later. Time in which the watch itself got no turn (the
process was stopped, the machine slept) counts for nobody.
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
# A run may take this many times what was expected, and always so many seconds of CPU time.
_TIMES_EXPECTED = 10.0
LEAST_S = 1.5
# The time that passed convicts alone at this many times the limit.
_PASSED = 6.0
# So long after its last caller's deadline a run is of use to nobody. One that has taken this share of its limit by then
# is odd: it is left some seconds more to show whether it is endless, or its input could be sent again and again.
_LATE_S, _ODD, _ODD_LATE_S = 0.5, 0.2, 5.0
# What a run that was told to stop may still take.
_OBEY_S = 1.0
# How long the process lives on to say who was in the run.
_LAST_WORDS_S = 0.5


class Run:
    """A batch's run. `cause`: why it was told to stop, if it was. For `begin` and `end`: the thread that runs it."""

    __slots__ = (
        "_watch",
        "cause",
        "clock_id",
        "cpu_s",
        "is_doomed",
        "late_s",
        "limit_s",
        "passed_s",
        "thread",
        "told_at",
    )

    def __init__(self, watch: "Watch", limit_s: float, late_s: float) -> None:
        self._watch = watch
        self.limit_s = limit_s
        self.late_s = late_s
        self.cause: Literal["endless", "late"] | None = None
        self.is_doomed = False  # the process ends for it
        self.thread = self.clock_id = 0
        self.cpu_s: float | None = None  # the thread's clock when the watch first saw the run
        self.passed_s = 0.0
        self.told_at = (0.0, 0.0)  # CPU time and time passed when it was told to stop

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
        if (
            self.cause
        ):  # the watch may be about to stop this thread's run, which must not be the next one
            self._watch.wait_for_look()


class Watch:
    """Looks at the runs of a backend. Enter it to start its thread; `look` alone is for a test with clocks of its own.

    `last_words` is called, in the watch's thread, with the run for which `end` ends the process a moment later.
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
        """Whether a short run may be the event loop's own: if it does not end, it is stopped soon."""
        return self._stop is not None and (self._max_run_s or 0.0) <= LEAST_S

    def run(self, expected_s: float, deadline_s: float, now_s: float) -> Run:
        """A run to be: enter it in the thread that runs. `deadline_s` is that of its last caller."""
        limit_s = self._max_run_s or max(LEAST_S, _TIMES_EXPECTED * expected_s)
        return Run(self, limit_s, max(deadline_s + _LATE_S, now_s + LEAST_S))

    def wait_for_look(self) -> None:
        """Until nobody is being stopped."""
        with self._looking:
            pass

    def look(self) -> None:
        """Once at everything that runs now."""
        now_s = self._clock()
        passed_s, self._looked_s = min(now_s - self._looked_s, 2 * LOOK_S), now_s
        for run in list(self.runs):
            with self._looking:
                is_doomed = self._judge(run, passed_s, now_s)
            if is_doomed:
                self._end_for(run)

    def _keep_looking(self) -> None:
        while not self._over.wait(LOOK_S):
            try:
                self.look()
            except Exception:
                log.exception("the watch failed at a look")

    def _judge(self, run: Run, passed_s: float, now_s: float) -> bool:
        """Stop a run that is over its limit, or late; whether the process is to end for it."""
        cpu_s = self._cpu_clock(run.clock_id)
        if run.cpu_s is None:
            run.cpu_s = cpu_s
            return False
        run.passed_s += passed_s
        spent = (cpu_s - run.cpu_s, run.passed_s)
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
        # In this order, as its thread leaves first and then asks for the cause: it is not stopped in its next run.
        if run in self.runs:
            self._stop(run.thread)
        return is_endless and _is_over(spent, run.told_at, _OBEY_S)

    def _end_for(self, run: Run) -> None:
        log.critical("a run of the model does not end, and cannot be stopped: this process ends")
        run.cause, run.is_doomed = "endless", True
        self._last_words(run)
        self._over.wait(self._last_words_s)
        self._end()


def _is_over(spent: tuple[float, float], since: tuple[float, float], limit_s: float) -> bool:
    """Whether so much CPU time was spent since, or so much more time has passed."""
    return spent[0] - since[0] >= limit_s or spent[1] - since[1] >= _PASSED * limit_s
