"""The one kind of percentile that the release gate and all load tests print: by nearest rank.

It is a value that was measured, so an objective is held to a request that really took that long.
Interpolation would report a time between two requests, below the slow one: of 50 requests, of which
one takes a second and the others 10 ms, it gives 515 ms as the 99th percentile.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["percentile", "percentiles"]


def percentile(values: Sequence[float] | npt.NDArray[np.floating], percent: int) -> float:
    """The smallest value that `percent` % (1 to 100) of all values do not exceed; NaN of none."""
    return percentiles(values, (percent,))[0]


def percentiles(
    values: Sequence[float] | npt.NDArray[np.floating], percents: Sequence[int]
) -> list[float]:
    """A percentile for each of `percents`, from one sorting of the values."""
    ordered = np.sort(np.asarray(values, np.float64))
    if not len(ordered):
        return [float("nan")] * len(percents)
    # In integers: 0.99 * 700 is below 693 in floating point.
    ranks = [-(-len(ordered) * percent // 100) for percent in percents]
    return [float(ordered[rank - 1]) for rank in ranks]
