"""The runs of one batch: the first one and, if that fails, those that find the parts at fault."""

from collections.abc import Callable
from time import monotonic
from typing import Literal

from headrace.errors import RunStopped
from headrace.replica.watch import LEAST_S, Run, Watch

__all__ = ["Tries"]

# The search for parts at fault may take this many times the expected time of the batch, and always
# LEAST_S. If all of 64 parts are at fault, it takes forty times as long where half of a batch's
# time is its base, and nineteen times where that is a fifth.
_TIMES_EXPECTED = 30.0


class Tries:
    """Starts the runs of a batch. The watch's limit is for each run, so many short ones may follow.

    Together they are bound by the time of the search and by the latest deadline of the batch.
    `expected_s` is the most time that the whole batch may be expected to take. `last` is the
    present run, or the last one.
    """

    __slots__ = ("_clock", "_deadline_s", "_expected_s", "_started_s", "_watch", "count", "last")

    def __init__(
        self,
        watch: Watch,
        expected_s: float,
        deadline_s: float,
        started_s: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._watch = watch
        self._expected_s = expected_s
        self._deadline_s = deadline_s
        self._started_s = started_s
        self._clock = clock
        self.count = 0
        self.last: Run | None = None

    @property
    def cause(self) -> Literal["endless", "late"] | None:
        """The reason why the last run was told to stop, if it was."""
        return self.last.cause if self.last else None

    @property
    def are_doomed(self) -> bool:
        """True if the process ends because of a run."""
        return self.last is not None and self.last.is_doomed

    @property
    def are_over(self) -> bool:
        """True if there is no time for another run; there always is for the first one."""
        if not self.count:
            return False
        longest_s = max(LEAST_S, _TIMES_EXPECTED * self._expected_s)
        return self._clock() >= min(self._started_s + longest_s, self._deadline_s)

    def begin(self) -> Run:
        """The next run, to enter in its thread. Raises RunStopped if the last one was stopped."""
        if self.last:
            self.check()
        self.count += 1
        self.last = self._watch.run(self._expected_s, self._deadline_s, self._clock())
        return self.last

    def check(self) -> None:
        """Raise RunStopped if the last run was stopped: a smaller batch would not end either."""
        if self.cause:
            raise RunStopped("the model did not end on this batch")
