"""Chooses how large a batch may be, by the times that recent batches of each size took.

Times are from a batch's start to the next one's. Nothing is assumed about how time grows with size:
devices have steps, caches end, neighbours take cores. Sizes are counted in rungs, powers of two of
cells. A batch takes all that waits, up to the rung above which no batch was faster lately. Doubt
(few batches, old or widely spread ones) favours the larger size. Under backlog larger rungs are
probed again and again, since what was measured once may change.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from math import hypot, inf
from statistics import median
from typing import NamedTuple

from headrace.batching.cost import LEAST_S, Cost, size_of

__all__ = ["LEAST_GAIN", "Sizes"]

# Since all cells of a batch wait for its end, a larger one must run each of them faster by this
# share.
LEAST_GAIN = 0.04
# A batch counts for this many seconds or, if it was slow, this many times what it took.
_FRESH_S = 1.0
_FRESH_TIMES = 30
# The fewest batches of a size that tell its pace, and the most that are remembered.
_ENOUGH = 3
_RECENT = 24
# The share of the time that goes to probing one size that is not in use.
_PROBE_SHARE = 0.02
# A batch this many times faster than the one before shows that whatever slowed that one is over.
_RECOVERED = 2
# A smaller size is probed in a burst if it promises to lose less than this share; otherwise only
# now and then, since items left for the next batch wait for all of this one. Its times then count
# longer.
_LIKELY = 0.2
_RARELY = 8
# Sizes up to four times the present one are probed, and larger ones only if this quick: all wait
# for them.
_QUICK_S = 0.05
# Quick batches are looked at together, once in this many seconds.
_LOOK_S = 0.02
# The least spread that is believed; the factors from a median deviation to a normal spread, and
# from that to the error of a median.
_LEAST_SPREAD = 0.03
_SPREAD_OF_DEVIATION = 1.4826
_ERROR_OF_SPREAD = 1.2533
_TOP = 60


class _Pace(NamedTuple):
    """Seconds per cell, and their standard error as a share of them."""

    cell_s: float
    error: float


class _Rung:
    """The recent batches of one size: when they ran, and their seconds per cell."""

    __slots__ = ("batch_s", "probed_s", "ran")

    def __init__(self, now_s: float) -> None:
        self.ran: deque[tuple[float, float]] = deque(maxlen=_RECENT)
        self.batch_s = 0.0
        self.probed_s = now_s  # a new rung waits for its first probe from now on

    def pace(self, now_s: float, most_s: float = inf, times: int = _FRESH_TIMES) -> _Pace | None:
        """The pace of batches that are fresh; None if they are too few.

        Slow batches stay fresh for longer, but none is taken to need more than `most_s`.
        """
        oldest_s = now_s - max(_FRESH_S, times * min(self.batch_s, most_s))
        fresh = [cell_s for ran_s, cell_s in self.ran if ran_s >= oldest_s]
        if len(fresh) < _ENOUGH:
            return None
        middle = median(fresh)
        spread = _SPREAD_OF_DEVIATION * median(abs(cell_s - middle) for cell_s in fresh) / middle
        return _Pace(middle, _ERROR_OF_SPREAD * max(_LEAST_SPREAD, spread) / len(fresh) ** 0.5)

    def is_due(self, now_s: float, most_s: float) -> bool:
        """True if another probe keeps within the share of time for probes."""
        last_s = max(self.probed_s, self.ran[-1][0] if self.ran else -inf)
        return now_s - last_s >= min(self.batch_s or inf, most_s) / _PROBE_SHARE


class Sizes:
    """Chooses the most cells of the next batch. Times are in seconds, on the caller's clock."""

    def __init__(self, least_gain: float = LEAST_GAIN) -> None:
        self._least_gain = least_gain
        self._rungs: dict[int, _Rung] = {}
        self._rung = _TOP
        self._most = inf
        self._look_s = -inf

    @property
    def cells(self) -> float:
        """The limit of batches that are no probes; infinite if they take all that waits."""
        return self._most

    def most(self, waiting_cells: int, row_cells: int, cost: Cost | None, now_s: float) -> float:
        """Choose the most cells of the next batch, of which `waiting_cells` are there to take.

        No size is below `row_cells`, a usual row's. `cost` only decides how eagerly unknown sizes
        are probed.
        """
        if now_s < self._look_s:
            return self._most
        self._rung = max(self._rung, size_of(row_cells))
        probe = self._look(waiting_cells, cost, now_s)
        self._most = inf if self._rung == _TOP else float(1 << self._rung)
        if probe is None:
            self._look_s = now_s + _LOOK_S
            return self._most
        self._at(probe, now_s).probed_s = now_s
        return float(1 << probe)

    def ran(self, cells: int, seconds: float, now_s: float) -> None:
        """Learn from a batch: its cells, and the seconds until the next one could start."""
        rung = self._at(size_of(cells), now_s)
        rung.batch_s = seconds
        cell_s = max(seconds, LEAST_S) / cells
        if rung.ran and _RECOVERED * cell_s < rung.ran[-1][1]:
            rung.ran.clear()
        rung.ran.append((now_s, cell_s))

    def _look(self, waiting_cells: int, cost: Cost | None, now_s: float) -> int | None:
        """The rung of the next batch, if not the present one: a probe, or a better one."""
        here = min(self._rung, size_of(waiting_cells))
        pace = self._at(here, now_s).pace(now_s)
        larger = self._climb(here, pace, self._larger(here, waiting_cells, cost), now_s)
        return self._descend(here, pace, cost, now_s) if larger is None else larger

    def _climb(
        self, here: int, pace: _Pace | None, rungs: Iterable[int], now_s: float
    ) -> int | None:
        batch_s = self._at(here, now_s).batch_s or inf
        for larger in rungs:
            above = self._at(larger, now_s)
            likely_s = batch_s * (1 << larger - here)
            times = _FRESH_TIMES * _RARELY if larger > here + 1 else _FRESH_TIMES
            above_pace = above.pace(now_s, likely_s, times)
            if above_pace is None:
                return larger
            if pace is not None and self._gains(above_pace, pace):
                self._rung = larger
                return larger
            if above.is_due(now_s, likely_s):
                return larger
        return None

    def _descend(
        self, here: int, pace: _Pace | None, cost: Cost | None, now_s: float
    ) -> int | None:
        """The fastest smaller rung that this one does not beat; unknown ones are probed first."""
        if pace is None:
            return None
        best = None
        best_s = pace.cell_s * (1 + self._least_gain)
        batch_s = self._at(here, now_s).batch_s
        for smaller in range(here - 1, -1, -1):
            below = self._at(smaller, now_s)
            found = below.pace(now_s, batch_s, _FRESH_TIMES * _RARELY)
            is_due = smaller == here - 1 and below.is_due(now_s, batch_s)
            if is_due or (found is None and self._is_flat(cost, smaller, here)):
                return smaller
            if found is None or found.cell_s >= best_s:
                continue
            if not self._gains(pace, found):
                best = smaller
                best_s = found.cell_s
            elif found.cell_s < pace.cell_s and found.error > pace.error:
                # It seems to be faster: a few more batches will tell. They are of this size only if
                # it is the less certain one: otherwise its trials would last until old, slow times
                # of the present size are stale.
                return smaller
        if best is not None:
            self._rung = best
        return best

    def _larger(self, here: int, waiting_cells: int, cost: Cost | None) -> Iterator[int]:
        """The larger rungs that waiting cells could fill; distant ones only if they are quick."""
        for rung in range(here + 1, size_of(waiting_cells) + 1):
            if rung > here + 2 and (cost is None or cost.seconds(1 << rung) > _QUICK_S):
                return
            yield rung

    def _is_flat(self, cost: Cost | None, small: int, large: int) -> bool:
        """True if a smaller size promises to be nearly as fast."""
        if cost is None:
            return False
        small_s = cost.seconds(1 << small) * (1 << large - small)
        return small_s < (1 + _LIKELY) * cost.seconds(1 << large)

    def _gains(self, large: _Pace, small: _Pace) -> bool:
        """True if the larger size may be faster by enough to be worth the wait."""
        speed_up = small.cell_s / large.cell_s
        return speed_up * (1 + hypot(small.error, large.error)) > 1 + self._least_gain

    def _at(self, rung: int, now_s: float) -> _Rung:
        found = self._rungs.get(rung)
        if found is None:
            found = self._rungs[rung] = _Rung(now_s)
        return found
