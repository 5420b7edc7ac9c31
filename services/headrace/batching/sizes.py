"""How large a batch may be, by what batches of each size took lately, from the start of one to the start of the next.

Nothing is assumed of how time grows with size: devices have steps, caches end, neighbours take cores. Sizes count in
rungs, powers of two of cells. A batch takes what waits, up to a rung over which all larger ones were shown, lately, to
gain nothing. Whatever is in doubt, too few batches, old ones or widely spread ones, speaks for the
larger size, and under backlog larger rungs are tried again and again: so no belief outlives what it rests on.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from math import hypot, inf
from statistics import median
from typing import NamedTuple

from headrace.batching.cost import LEAST_S, Cost, size_of

__all__ = ["LEAST_GAIN", "Sizes"]

# More cells must be run faster by this share, each, to be worth that all of them wait for the whole batch.
LEAST_GAIN = 0.04
# A batch speaks for a second, and a slow one for so many times what it took.
_FRESH_S, _FRESH_TIMES = 1.0, 30
_ENOUGH, _KEPT = 3, 24
# Of the time, for trying one size that is not in use.
_PROBE_SHARE = 0.02
# So many times faster than the one before it, a batch says that what slowed those is over.
_PAST = 2
# A smaller size is tried in a burst if it promises to lose less than this; else now and then, as those who are left for
# the next batch wait for all of this one. What it tells must be kept for as much longer then.
_LIKELY, _SLOWLY = 0.2, 8
# Batches of up to four times the size are tried, and others that are quick, since all wait for one that is not.
_QUICK_S = 0.05
# Quick batches are looked at together.
_LOOK_S = 0.02
# No spread is believed to be less; and a normal spread and a median's error, from a median deviation.
_LEAST_SPREAD, _SPREAD_OF_DEVIATION, _ERROR_OF_SPREAD = 0.03, 1.4826, 1.2533
_TOP = 60


class _Pace(NamedTuple):
    """Seconds a cell, and the standard error of that as a share of it."""

    cell_s: float
    error: float


class _Rung:
    """The last batches of one size: when they ran and what a cell of theirs took, in seconds."""

    __slots__ = ("batch_s", "ran", "tried_s")

    def __init__(self, now_s: float) -> None:
        self.ran: deque[tuple[float, float]] = deque(maxlen=_KEPT)
        self.batch_s = 0.0
        self.tried_s = now_s  # of a new one that is the time from which it is waited for

    def pace(self, now_s: float, most_s: float = inf, times: int = _FRESH_TIMES) -> _Pace | None:
        """None while too few are fresh: such a batch is taken to need `most_s` at most, however slow the last were."""
        oldest_s = now_s - max(_FRESH_S, times * min(self.batch_s, most_s))
        fresh = [cell_s for ran_s, cell_s in self.ran if ran_s >= oldest_s]
        if len(fresh) < _ENOUGH:
            return None
        middle = median(fresh)
        spread = _SPREAD_OF_DEVIATION * median(abs(cell_s - middle) for cell_s in fresh) / middle
        return _Pace(middle, _ERROR_OF_SPREAD * max(_LEAST_SPREAD, spread) / len(fresh) ** 0.5)

    def is_due(self, now_s: float, most_s: float) -> bool:
        """Whether it may be tried again, so that trying it takes its share of the time."""
        last_s = max(self.tried_s, self.ran[-1][0] if self.ran else -inf)
        return now_s - last_s >= min(self.batch_s or inf, most_s) / _PROBE_SHARE


class Sizes:
    """The most cells of the next batch. Times are in seconds, on the clock of whoever calls."""

    def __init__(self, least_gain: float = LEAST_GAIN) -> None:
        self._least_gain = least_gain
        self._rungs: dict[int, _Rung] = {}
        self._rung = _TOP
        self._most = inf
        self._look_s = -inf

    @property
    def cells(self) -> float:
        """What batches are held to now, but for those that try another size; infinite for all that waits."""
        return self._most

    def most(self, waiting_cells: int, row_cells: int, cost: Cost | None, now_s: float) -> float:
        """The most cells that the next batch may have, where a batch could have `waiting_cells` at most.

        A usual row has `row_cells`: no size below that is one. The `cost` that is believed only says how eagerly sizes
        are tried of which nothing is known.
        """
        if now_s < self._look_s:
            return self._most
        self._rung = max(self._rung, size_of(row_cells))
        tried = self._look(waiting_cells, cost, now_s)
        self._most = inf if self._rung == _TOP else float(1 << self._rung)
        if tried is None:
            self._look_s = now_s + _LOOK_S
            return self._most
        self._at(tried, now_s).tried_s = now_s
        return float(1 << tried)

    def ran(self, cells: int, seconds: float, now_s: float) -> None:
        """A batch of so many cells took so long, until the next one could begin."""
        rung = self._at(size_of(cells), now_s)
        rung.batch_s, cell_s = seconds, max(seconds, LEAST_S) / cells
        if rung.ran and _PAST * cell_s < rung.ran[-1][1]:
            rung.ran.clear()
        rung.ran.append((now_s, cell_s))

    def _look(self, waiting_cells: int, cost: Cost | None, now_s: float) -> int | None:
        """The rung of the next batch, if it is another one: to try it, or for as long as it is worth it."""
        here = min(self._rung, size_of(waiting_cells))
        pace = self._at(here, now_s).pace(now_s)
        larger = self._climb(here, pace, self._larger(here, waiting_cells, cost), now_s)
        return self._descend(here, pace, cost, now_s) if larger is None else larger

    def _climb(
        self, here: int, pace: _Pace | None, rungs: Iterable[int], now_s: float
    ) -> int | None:
        batch_s = self._at(here, now_s).batch_s or inf
        for larger in rungs:
            above, likely_s = self._at(larger, now_s), batch_s * (1 << larger - here)
            quick = above.pace(
                now_s, likely_s, _FRESH_TIMES * (_SLOWLY if larger > here + 1 else 1)
            )
            if quick is None:
                return larger
            if pace is not None and self._gains(quick, pace):
                self._rung = larger
                return larger
            if above.is_due(now_s, likely_s):
                return larger
        return None

    def _descend(
        self, here: int, pace: _Pace | None, cost: Cost | None, now_s: float
    ) -> int | None:
        """The quickest smaller rung that this one gains nothing over; before it, one of which too little is known."""
        if pace is None:
            return None
        best, best_s, batch_s = (
            None,
            pace.cell_s * (1 + self._least_gain),
            self._at(here, now_s).batch_s,
        )
        for smaller in range(here - 1, -1, -1):
            below = self._at(smaller, now_s)
            found = below.pace(now_s, batch_s, _FRESH_TIMES * _SLOWLY)
            is_due = smaller == here - 1 and below.is_due(now_s, batch_s)
            if is_due or (found is None and self._is_flat(cost, smaller, here)):
                return smaller
            if found is None or found.cell_s >= best_s:
                continue
            if not self._gains(pace, found):
                best, best_s = smaller, found.cell_s
            elif found.cell_s < pace.cell_s:
                return smaller  # it seems to be quicker: a few more will tell
        if best is not None:
            self._rung = best
        return best

    def _larger(self, here: int, waiting_cells: int, cost: Cost | None) -> Iterator[int]:
        """The larger rungs that what waits could fill: all of them if they are quick, as a plateau may lie between."""
        for rung in range(here + 1, size_of(waiting_cells) + 1):
            if rung > here + 2 and (cost is None or cost.seconds(1 << rung) > _QUICK_S):
                return
            yield rung

    def _is_flat(self, cost: Cost | None, small: int, large: int) -> bool:
        """Whether a smaller size promises to be nearly as quick."""
        if cost is None:
            return False
        return cost.seconds(1 << small) * (1 << large - small) < (1 + _LIKELY) * cost.seconds(
            1 << large
        )

    def _gains(self, large: _Pace, small: _Pace) -> bool:
        """Whether the larger size may be faster by enough to be worth it."""
        return (
            small.cell_s / large.cell_s * (1 + hypot(small.error, large.error))
            > 1 + self._least_gain
        )

    def _at(self, rung: int, now_s: float) -> _Rung:
        found = self._rungs.get(rung)
        if found is None:
            found = self._rungs[rung] = _Rung(now_s)
        return found
