"""Executors that take their time on a virtual clock: `base + each * cells`, with noise."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

__all__ = ["PRESETS", "Executor", "Preset"]


@dataclass(frozen=True)
class Preset:
    """A model on a device: the time of its batches, and a sensible objective for its latency.

    `is_ragged` where a row's cells are its length; else every row is one cell.
    """

    what: str
    base_s: float
    cell_s: float
    objective_s: float
    is_ragged: bool = True

    def seconds(self, cells: int) -> float:
        return self.base_s + self.cell_s * cells

    def limit(self, mean_length: float, max_rows: int) -> float:
        """Rows a second with every batch full and nothing padded: more is not possible."""
        return 1 / (self.cell_s * mean_length + self.base_s / max_rows)


PRESETS = {
    "yardstick": Preset("50 ms a batch whatever its size", 0.05, 0.0, 0.15, is_ragged=False),
    "minilm-cpu": Preset(
        "a small Transformer on a CPU: 4 ms and 0.3 ms a token", 0.004, 0.0003, 0.5
    ),
    "gpu": Preset("a Transformer on a GPU: 5 ms and 0.01 ms a token", 0.005, 0.00001, 0.1),
    "small-cnn": Preset(
        "a CNN of 28 x 28 images on a CPU: 8 us and 22 us an image", 8e-6, 22e-6, 0.005, False
    ),
}


class Executor:
    """Runs batches of lengths, each row padded to what `padded` makes of the longest; counts what
    it ran.

    `noise` is the standard deviation of a batch's time as a share of it: log-normal, so that no
    batch takes less than nothing, with the mean that it has without.
    """

    def __init__(
        self, preset: Preset, padded: Callable[[int], int], noise: float = 0.0, seed: int = 0
    ) -> None:
        self._preset = preset
        self._padded = padded
        self._noise = noise
        self._chance = Random(seed)  # noqa: S311 - the same noise for the same seed is what it is for
        self.batches = self.rows = self.cells = self.real_cells = 0
        self.busy_s = 0.0

    async def __call__(self, lengths: Sequence[int]) -> Sequence[int]:
        cells = len(lengths) * self._padded(max(lengths))
        took_s = self._preset.seconds(cells) * self._chance.lognormvariate(
            -(self._noise**2) / 2, self._noise
        )
        self.batches += 1
        self.rows += len(lengths)
        self.cells += cells
        self.real_cells += sum(lengths)
        self.busy_s += took_s
        await asyncio.sleep(took_s)
        return lengths
