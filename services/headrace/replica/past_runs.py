"""The times of past runs, by which an endless run is told from a slow one."""

from headrace.batching import size_of

__all__ = ["PastRuns"]

# A batch larger than any seen is given at most this many times longer for that.
_MOST_TIMES = 10.0


class PastRuns:
    """The latest time of each batch size, so that no sound batch is found endless later."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._cells = 1
        self._longest = 1

    def add(self, cells: int, longest: int, seconds: float) -> None:
        """Remember a batch that succeeded in one run; its longest row had `longest` cells."""
        self._seconds[size_of(cells)] = seconds
        self._cells = max(self._cells, cells)
        self._longest = max(self._longest, longest)

    def at_most_s(self, cells: int, longest: int, expected_s: float) -> float:
        """The most time that a sound batch may be expected to take.

        It is at least that of a batch that was no smaller. A batch larger than all others gets more
        in proportion, and as much again for times that grow with the square, as attention's do.
        """
        size = size_of(cells)
        if cells <= self._cells and longest <= self._longest and size in self._seconds:
            return max(expected_s, self._seconds[size])
        as_large_s = next(
            (self._seconds[known] for known in sorted(self._seconds) if known >= size), 0.0
        )
        larger = min(_MOST_TIMES, max(1.0, cells / self._cells, longest / self._longest))
        if larger > 1.0 and self._seconds:
            as_large_s = larger * self._seconds[max(self._seconds)]
        return max(expected_s, as_large_s) * larger
