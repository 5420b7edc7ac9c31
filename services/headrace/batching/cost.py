"""How long a batch takes: `base + each * cells`, measured while serving. Cells are rows x padded length.

A line through the medians of what batches of each size took lately, sizes being powers of two of cells: a median does
not mind a paused machine, and nothing outlives what it rests on. While batches of one size alone tell, the base keeps
its share of their time for a while, and less and less of it: too small a base makes batches of other sizes, which tell.
"""

from collections import deque
from math import inf
from statistics import median
from typing import NamedTuple

__all__ = ["LEAST_S", "Cost", "CostModel", "size_of"]

# No batch is believed to take less, whatever a coarse clock says.
LEAST_S = 1e-9

# The last batches of a size, each for a second or, if slow, for so many times what it took.
_KEPT = 9
_FRESH_S, _FRESH_TIMES = 1.0, 30
# Quick batches are learnt from together.
_LEARN_S = 0.01
# Where one size alone tells, and rows are padded for the sake of the base, this much is left of it at each look.
_KEEP, _PADDED = 0.95, 1.01
# A batch that took very long (a paused machine) deviates as if it had taken so many times what was expected.
_MOST_SURPRISE = 2.0
_DEVIATION_GAIN = 0.1
_PADDING_GAIN = 0.05
_TURN_GAIN = 0.1


class Cost(NamedTuple):
    """What a batch takes, in seconds, by measurement.

    `margin_s` is what it may take beyond that, `turn_s` what passes until the next one if others wait. The largest of
    those that were seen lately had `known_cells`.
    """

    base_s: float
    cell_s: float
    margin_s: float = 0.0
    turn_s: float = 0.0
    known_cells: float = inf

    def seconds(self, cells: float) -> float:
        return self.base_s + self.cell_s * cells

    def alone(self, cells: float) -> float:
        """What it takes at least: nothing is refused for what no batch has shown, or none would ever show it."""
        return self.base_s + self.cell_s * min(cells, self.known_cells)


class _Point(NamedTuple):
    """What batches of one size took lately: their median, and how much it weighs."""

    cells: float
    seconds: float
    weight: float


class CostModel:
    """Times are in seconds; `base_s` and `cell_s` are 0 until a batch was seen. `padding` is padded over real cells.

    `turn_s` is what passes between two batches while items wait.
    """

    def __init__(self) -> None:
        self.base_s = self.cell_s = 0.0
        self.deviation_s = 0.0
        self.padding = 1.0
        self.turn_s = 0.0
        self._plan = Cost(0.0, 0.0)
        self._ran: dict[int, deque[tuple[float, int, float]]] = {}  # size -> when, cells, seconds
        self._learn_s = self._seen_s = float("-inf")
        self._fresh_s = _FRESH_S

    def seconds(self, cells: float) -> float:
        """What a batch of so many cells is expected to take."""
        return self.base_s + self.cell_s * cells

    def at(self, now_s: float) -> Cost | None:
        """What batches are planned by; None while no recent batch has told."""
        return None if now_s - self._seen_s > self._fresh_s else self._plan

    def turn_took(self, seconds: float) -> None:
        """Learn from the time between a batch's end and the next one's start."""
        self.turn_s += _TURN_GAIN * (seconds - self.turn_s)

    def batch_ran(self, cells: int, real_cells: int, seconds: float, now_s: float) -> None:
        """Learn from a batch that succeeded: its cells, those of them that were no padding, and its time."""
        self.padding += _PADDING_GAIN * (cells / real_cells - self.padding)
        self._seen_s, self._fresh_s = now_s, max(_FRESH_S, 4 * seconds)
        if expected_s := self.seconds(cells):
            surprise_s = min(seconds, _MOST_SURPRISE * expected_s) - expected_s
            self.deviation_s += _DEVIATION_GAIN * (abs(surprise_s) - self.deviation_s)
        size = size_of(cells)
        ran = self._ran.get(size)
        if ran is None:
            ran = self._ran[size] = deque(maxlen=_KEPT)
        ran.append((now_s, cells, max(seconds, LEAST_S)))
        if now_s >= self._learn_s or len(ran) == 1:
            self._learn(now_s)
            self._learn_s = now_s + _LEARN_S

    def _learn(self, now_s: float) -> None:
        points = [point for ran in self._ran.values() if (point := _point(ran, now_s))]
        if len(points) > 1:
            self.base_s, self.cell_s = _line(points)
        else:
            self._follow(points[0])
        known_cells = max(point.cells for point in points)
        self._plan = Cost(self.base_s, self.cell_s, 2 * self.deviation_s, self.turn_s, known_cells)

    def _follow(self, only: _Point) -> None:
        """One size tells, so what it takes most of its time for takes the change."""
        if not self.seconds(1):
            self.base_s = only.seconds / 2
        elif self.padding > _PADDED:
            self.base_s *= _KEEP
        if self.base_s > only.seconds / 2:
            self.base_s = max(only.seconds / 2, only.seconds - self.cell_s * only.cells)
        self.cell_s = (only.seconds - self.base_s) / only.cells


def size_of(cells: int) -> int:
    """The exponent of the smallest power of two that holds so many."""
    return (cells - 1).bit_length()


def _point(ran: "deque[tuple[float, int, float]]", now_s: float) -> _Point | None:
    """None if nothing of it is fresh."""
    oldest_s = now_s - max(_FRESH_S, _FRESH_TIMES * ran[-1][2])
    fresh = [(cells, seconds) for ran_s, cells, seconds in ran if ran_s >= oldest_s]
    if not fresh:
        return None
    cell_s, mean = (
        median(seconds / cells for cells, seconds in fresh),
        sum(cells for cells, _ in fresh) / len(fresh),
    )
    return _Point(mean, cell_s * mean, len(fresh) / (cell_s * mean) ** 2)


def _line(points: "list[_Point]") -> tuple[float, float]:
    """The weighted least squares of it, base and slope; neither below nothing."""
    weight = sum(p.weight for p in points)
    cells = sum(p.weight * p.cells for p in points) / weight
    seconds = sum(p.weight * p.seconds for p in points) / weight
    spread = sum(p.weight * (p.cells - cells) ** 2 for p in points)
    slope = sum(p.weight * (p.cells - cells) * (p.seconds - seconds) for p in points) / spread
    slope = min(max(slope, 0.0), seconds / cells)
    return seconds - slope * cells, slope
