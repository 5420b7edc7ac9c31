"""The growth of a process, as a slope that neither one large request nor waves of memory tilt."""

from collections.abc import Sequence
from itertools import combinations
from statistics import median

__all__ = ["Points", "floors", "rise", "slope"]

# (when, how much), in the order of time.
Points = Sequence[tuple[float, float]]

WINDOWS = 20


def slope(points: Points) -> float:
    """Growth per unit of time: Theil and Sen's median of all slopes, through the floors of equal
    windows.

    What is freed again leaves its floor where it was, so that a saw-tooth is flat; a leak lifts
    every floor.
    """
    pairs = combinations(floors(points), 2)
    return median(
        [(after - before) / (later - sooner) for (sooner, before), (later, after) in pairs] or [0.0]
    )


def rise(points: Points) -> float:
    """By how much the last window's floor is above the first's."""
    found = floors(points)
    return found[-1][1] - found[0][1] if found else 0.0


def floors(points: Points) -> Points:
    """The least of each window, where it was; an empty window has none."""
    if not points:
        return []
    start, span = points[0][0], points[-1][0] - points[0][0]
    windows: dict[int, tuple[float, float]] = {}
    for when, value in points:
        window = min(WINDOWS - 1, int((when - start) / span * WINDOWS)) if span else 0
        windows[window] = min(
            windows.get(window, (when, value)), (when, value), key=lambda point: point[1]
        )
    return list(windows.values())
