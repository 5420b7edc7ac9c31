"""Learning what batches take, from when they start and end."""

from typing import NamedTuple

from headrace.batching.cost import CostModel
from headrace.batching.sizes import Sizes

__all__ = ["Learner"]

# A batch that had the device to itself for less than this share of its time ended together with
# another.
_HELD_SHARE = 0.1


class _Ended(NamedTuple):
    cells: int
    seconds: float
    ended_s: float


class Learner:
    """Teaches `cost` and `sizes` what batches take.

    If batches run one at a time, `sizes` counts the gap after each one as a part of it.
    """

    def __init__(self, cost: CostModel, sizes: Sizes, max_running: int) -> None:
        self._cost = cost
        self._sizes = sizes
        self._max_running = max_running
        # The last batch's end, if items have waited since.
        self._waited_since_s: float | None = None
        self._last: _Ended | None = None  # the last batch, until the next one starts
        self._freed_s = 0.0  # the end of the last batch of all that ran at a time

    def nobody_waits(self) -> None:
        """The time until the next batch is no gap: the queue is empty."""
        self._waited_since_s = None

    def batch_starts(self, now_s: float) -> None:
        """Learn from the gap since the last batch. If nobody waited, at most a usual one."""
        has_waited = self._waited_since_s is not None
        if self._waited_since_s is not None:
            self._cost.gap_took(now_s - self._waited_since_s)
            self._waited_since_s = None
        if self._last is None:
            return
        gap_s = now_s - self._last.ended_s
        if not has_waited:
            gap_s = min(gap_s, self._cost.gap_s)
        self._sizes.ran(self._last.cells, self._last.seconds + gap_s, now_s)
        self._last = None

    def batch_succeeded(
        self, cells: int, real_cells: int, started_s: float, ended_s: float
    ) -> None:
        """Learn from a batch of `cells`, of which `real_cells` are not padding."""
        seconds = ended_s - started_s
        self._cost.batch_ran(cells, real_cells, seconds, ended_s)
        if self._max_running == 1:
            self._last = _Ended(cells, seconds, ended_s)
            return
        # It ran beside another batch, and had the device to itself only when that one had ended.
        held_s = ended_s - max(started_s, self._freed_s)
        if held_s > _HELD_SHARE * seconds:
            self._sizes.ran(cells, held_s, ended_s)

    def batch_ended(self, ended_s: float, *, is_waited_for: bool) -> None:
        """A batch succeeded or failed; `is_waited_for` says whether items are in the queue."""
        self._freed_s = ended_s
        self._waited_since_s = ended_s if is_waited_for else None
