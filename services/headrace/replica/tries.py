"""The runs of one batch: the first, and where that fails those that find out whose fault it was."""

from collections.abc import Callable
from time import monotonic
from typing import Literal

from headrace.errors import RunStopped
from headrace.replica.watch import LEAST_S, Run, Watch

__all__ = ["Tries"]

# The search for those at fault may take this many times what the batch was expected to take, and always LEAST_S: where
# all of 64 are at fault and half of a batch's time is its base, it takes forty, and nineteen where that is a fifth.
_TIMES_EXPECTED = 30.0


class Tries:
    """Each run has the watch's limit for itself, so that many short ones are not taken for one that does not end.

    What bounds them together is time: that of the search, and the deadline of the batch's last caller. `expected_s` is
    what the whole batch may be expected to take. `last`: the run that goes on, or else the last one.
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
        """Why the last run was told to stop, if it was."""
        return self.last.cause if self.last else None

    @property
    def are_doomed(self) -> bool:
        """Whether the process ends for one."""
        return self.last is not None and self.last.is_doomed

    @property
    def are_over(self) -> bool:
        """Whether there is no time for another run. There is for the first."""
        if not self.count:
            return False
        longest_s = max(LEAST_S, _TIMES_EXPECTED * self._expected_s)
        return self._clock() >= min(self._started_s + longest_s, self._deadline_s)

    def begin(self) -> Run:
        """The next run: enter it in the thread that runs. Raises RunStopped if the last one was told to stop."""
        if self.last:
            self.check()
        self.count += 1
        self.last = self._watch.run(self._expected_s, self._deadline_s, self._clock())
        return self.last

    def check(self) -> None:
        """Raises RunStopped if the last run was told to stop: what does not end would not in a smaller batch either."""
        if self.cause:
            raise RunStopped("the model did not end on this batch")
