"""The time of a batch, `base + each * cells`, measured while serving.

Cells are rows x padded length. The model is a straight line through the median times of recent
batches of each size, sizes being powers of two of cells. A median tolerates a paused machine, and
old batches are forgotten. While all batches are of one size, the base keeps a share of their time
that shrinks at each look: too small a base makes the batcher form batches of other sizes, which
tell the two apart.
"""

from collections import deque
from math import inf
from statistics import median
from typing import NamedTuple

__all__ = ["LEAST_S", "Cost", "CostModel", "size_of"]

# The least that a batch is believed to take, whatever a coarse clock says.
LEAST_S = 1e-9

# The number of batches of a size that count.
_RECENT = 9
# A batch counts for this many seconds or, if it was slow, this many times what it took.
_FRESH_S = 1.0
_FRESH_TIMES = 30
# Quick batches are learnt from together, once in this many seconds.
_LEARN_S = 0.01
# While all batches are of one size and padded beyond _PADDED, the base shrinks to this share at
# each look.
_BASE_DECAY = 0.95
_PADDED = 1.01
# A very slow batch (a paused machine) counts as at most this many times its expected time.
_MOST_SURPRISE = 2.0
_DEVIATION_GAIN = 0.1
_PADDING_GAIN = 0.05
_GAP_GAIN = 0.1


class Cost(NamedTuple):
    """The measured time of a batch, in seconds.

    `margin_s` is by how much a batch may be slower, `gap_s` the time from a batch's end to the next
    one's start while items wait, and `known_cells` the size of the largest recent batch.
    """

    base_s: float
    cell_s: float
    margin_s: float = 0.0
    gap_s: float = 0.0
    known_cells: float = inf

    def seconds(self, cells: float) -> float:
        return self.base_s + self.cell_s * cells

    def alone(self, cells: float) -> float:
        """The least time of these cells in a batch of their own.

        Sizes that were never seen count as the largest known one: a refused size would never be
        seen.
        """
        return self.base_s + self.cell_s * min(cells, self.known_cells)


class _Point(NamedTuple):
    """The median time of recent batches of one size, and its weight."""

    cells: float
    seconds: float
    weight: float


class CostModel:
    """Learns the cost of batches, in seconds; `base_s` and `cell_s` are 0 before the first one.

    `padding` is padded over real cells; `gap_s` is the time between two batches while items wait.
    """

    def __init__(self) -> None:
        self.base_s = 0.0
        self.cell_s = 0.0
        self.deviation_s = 0.0
        self.padding = 1.0
        self.gap_s = 0.0
        self._plan = Cost(0.0, 0.0)
        self._ran: dict[int, deque[tuple[float, int, float]]] = {}  # size -> when, cells, seconds
        self._learn_s = -inf  # when to learn again
        self._seen_s = -inf
        self._fresh_s = _FRESH_S

    def seconds(self, cells: float) -> float:
        """The expected time of a batch of this many cells."""
        return self.base_s + self.cell_s * cells

    def at(self, now_s: float) -> Cost | None:
        """The cost to plan batches by; None without a recent batch."""
        return None if now_s - self._seen_s > self._fresh_s else self._plan

    def gap_took(self, seconds: float) -> None:
        """Learn from the time between a batch's end and the next one's start."""
        self.gap_s += _GAP_GAIN * (seconds - self.gap_s)

    def batch_ran(self, cells: int, real_cells: int, seconds: float, now_s: float) -> None:
        """Learn from a batch that succeeded; `real_cells` are those that were not padding."""
        self.padding += _PADDING_GAIN * (cells / real_cells - self.padding)
        self._seen_s = now_s
        self._fresh_s = max(_FRESH_S, 4 * seconds)
        if expected_s := self.seconds(cells):
            surprise_s = min(seconds, _MOST_SURPRISE * expected_s) - expected_s
            self.deviation_s += _DEVIATION_GAIN * (abs(surprise_s) - self.deviation_s)
        size = size_of(cells)
        ran = self._ran.get(size)
        if ran is None:
            ran = self._ran[size] = deque(maxlen=_RECENT)
        ran.append((now_s, cells, max(seconds, LEAST_S)))
        if now_s >= self._learn_s or len(ran) == 1:
            self._learn(now_s)
            self._learn_s = now_s + _LEARN_S

    def _learn(self, now_s: float) -> None:
        points = [point for ran in self._ran.values() if (point := _point(ran, now_s))]
        if len(points) > 1:
            self.base_s, self.cell_s = _fit(points)
        else:
            self._follow(points[0])
        known_cells = max(point.cells for point in points)
        self._plan = Cost(
            base_s=self.base_s,
            cell_s=self.cell_s,
            margin_s=2 * self.deviation_s,
            gap_s=self.gap_s,
            known_cells=known_cells,
        )

    def _follow(self, only: _Point) -> None:
        """Adjust to the only size there is: its time changes the larger one of base and cells."""
        if not self.seconds(1):
            self.base_s = only.seconds / 2
        elif self.padding > _PADDED:
            self.base_s *= _BASE_DECAY
        if self.base_s > only.seconds / 2:
            self.base_s = max(only.seconds / 2, only.seconds - self.cell_s * only.cells)
        self.cell_s = (only.seconds - self.base_s) / only.cells


def size_of(cells: int) -> int:
    """The exponent of the smallest power of two that is not below `cells`."""
    return (cells - 1).bit_length()


def _point(ran: "deque[tuple[float, int, float]]", now_s: float) -> _Point | None:
    """The point of one size; None if all its batches are old."""
    oldest_s = now_s - max(_FRESH_S, _FRESH_TIMES * ran[-1][2])
    fresh = [(cells, seconds) for ran_s, cells, seconds in ran if ran_s >= oldest_s]
    if not fresh:
        return None
    cell_s = median(seconds / cells for cells, seconds in fresh)
    mean_cells = sum(cells for cells, _ in fresh) / len(fresh)
    seconds = cell_s * mean_cells
    return _Point(cells=mean_cells, seconds=seconds, weight=len(fresh) / seconds**2)


def _fit(points: "list[_Point]") -> tuple[float, float]:
    """Base and slope by weighted least squares; neither is negative."""
    weight = sum(p.weight for p in points)
    cells = sum(p.weight * p.cells for p in points) / weight
    seconds = sum(p.weight * p.seconds for p in points) / weight
    spread = sum(p.weight * (p.cells - cells) ** 2 for p in points)
    slope = sum(p.weight * (p.cells - cells) * (p.seconds - seconds) for p in points) / spread
    slope = min(max(slope, 0.0), seconds / cells)
    return seconds - slope * cells, slope
