"""How long a batch takes: `base + each * cells`, measured while serving. Cells are rows x padded length.

The two numbers are the state of a Kalman filter whose process noise lets them drift (Simon, Optimal State Estimation,
2006, chapter 5): what the traffic tells nothing about stays as it is, instead of being forgotten. While all batches
have one size, their level is followed, and each number keeps its part of it.
"""

from typing import NamedTuple

__all__ = ["Cost", "CostModel"]

# Standard deviations as shares of a batch's time: what one batch may be off, and what may change from one to the next.
_NOISE, _DRIFT = 0.15, 0.03
_LEAST = 0.02  # neither number is taken to be less than this share of a batch
_NOISE_FLOOR_S = 0.0002
# One batch that took very long (a paused machine) counts as this many times what was expected.
_MOST_SURPRISE = 2.0
_DEVIATION_GAIN = 0.1
_PADDING_GAIN = 0.05
_TURN_GAIN = 0.1
# An estimate older than this is of the past: nothing is refused by it, so that a wrong one can be mended.
_FRESH_S = 1.0


class Cost(NamedTuple):
    """What a batch takes, in seconds, by measurement.

    `margin_s` is what it may take beyond that, `turn_s` what passes until the next one, if others wait.
    """

    base_s: float
    cell_s: float
    margin_s: float = 0.0
    turn_s: float = 0.0

    def seconds(self, cells: float) -> float:
        return self.base_s + self.cell_s * cells


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
        self._variance = (0.0, 0.0, 0.0)  # of base_s, of both together, of cell_s
        self._seen_s = float("-inf")
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
        if self.seconds(cells):
            self._correct(cells, seconds)
        else:
            self.base_s, self.cell_s = seconds / 2, seconds / 2 / cells
            self._variance = (seconds**2, 0.0, (seconds / cells) ** 2)
        self._plan = Cost(self.base_s, self.cell_s, 2 * self.deviation_s, self.turn_s)

    def _correct(self, cells: int, seconds: float) -> None:
        expected_s = self.seconds(cells)
        surprise_s = min(seconds, _MOST_SURPRISE * expected_s) - expected_s
        self.deviation_s += _DEVIATION_GAIN * (abs(surprise_s) - self.deviation_s)
        base, both, cell = self._variance
        # Each drifts in proportion to itself, so that while all batches have one size their split is kept.
        own_base_s, own_cell_s = max(self.base_s, _LEAST * expected_s), max(self.cell_s, _LEAST * expected_s / cells)
        base = min(base + (_DRIFT * own_base_s) ** 2, own_base_s**2)
        cell = min(cell + (_DRIFT * own_cell_s) ** 2, own_cell_s**2)
        most = 0.99 * (base * cell) ** 0.5  # a covariance beyond it has no meaning once the two were cut
        both = max(-most, min(most, both))
        with_base, with_cell = base + cells * both, both + cells * cell
        total = with_base + cells * with_cell + (_NOISE * expected_s + _NOISE_FLOOR_S) ** 2
        self.base_s = max(0.0, self.base_s + with_base / total * surprise_s)
        self.cell_s = max(0.0, self.cell_s + with_cell / total * surprise_s)
        self._variance = (
            base - with_base * with_base / total,
            both - with_base * with_cell / total,
            cell - with_cell * with_cell / total,
        )
