"""The choice of the next batch among waiting items, as pure functions.

A batch's cells are its rows times its longest row: a short row beside a long one costs as much as a
long one. So the waiting lengths are cut into ranges, by the cut that runs all of them in the least
time if a batch costs `base + each * cells`. The first item travels with others of its range, as
many as `sizes` allows.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Generic, NamedTuple, Protocol, TypeVar

from headrace.batching.cost import Cost
from headrace.batching.queue import PATIENCE_S
from headrace.batching.sizes import LEAST_GAIN

__all__ = ["Limits", "Picked", "Waiting", "pick", "rows_of_a_batch"]

# The first item may be delayed by this share of its own run time, even past its deadline. At
# overload it is often so near its deadline that its batch would stay small, when throughput is
# needed most (docs/scheduling.md).
HURRY_SHARE = 0.5
# Lengths within a factor of 2 ** (1 / 8) count as one, which bounds the work of cutting.
_STEPS_AN_OCTAVE = 8


class Waiting(Protocol):
    """An item as the policy sees it: `rows` of `length`; only one `group` shares a batch."""

    @property
    def rows(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def group(self) -> Hashable: ...
    @property
    def deadline_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a batch and of the queue before it.

    `max_running` batches are with the executor at a time. A batch may grow while doubling its size
    gains `least_gain` of its speed. Within a priority the earliest deadline goes first; deadlines
    further off than `patience_s` count as that far.
    """

    max_rows: int = 32
    max_waiting_rows: int = 1024
    max_waiting_bytes: int = 256 << 20
    max_running: int = 1
    least_gain: float = LEAST_GAIN
    patience_s: float = PATIENCE_S

    def __post_init__(self) -> None:
        for name in ("max_rows", "max_waiting_rows", "max_waiting_bytes", "max_running"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.least_gain < 1:
            raise ValueError(f"least_gain must be between 0 and 1, not {self.least_gain}")
        if self.patience_s < 0:
            raise ValueError(f"patience_s must be at least 0, not {self.patience_s}")


_FREE = Cost(0.0, 0.0)

W = TypeVar("W", bound=Waiting)


class Picked(NamedTuple, Generic[W]):
    """The next batch, and the items that could not finish in time even if run alone now."""

    batch: list[W]
    late: list[W]


def rows_of_a_batch(length: float, max_rows: int, max_cells: float) -> int:
    """The number of rows of this length that a batch may have."""
    return max(1, int(min(max_rows, max_cells / length)))


def pick(
    items: Iterable[W],
    max_rows: int,
    max_cells: float = inf,
    cost: Cost | None = None,
    now_s: float = 0.0,
    *,
    is_ragged: bool = True,
) -> Picked[W]:
    """Take the first item that can finish in time and others of its group and range that fit.

    Items fit while the batch stays within `max_rows` and `max_cells` and ends before the tightest
    deadline in it, or delays the first item by HURRY_SHARE of its time alone. The first item always
    travels. Without a `cost` only the limits count, and lengths are cut as if a batch's base were
    0. Unless `is_ragged`, all items have one length.
    """
    late: list[W] = []
    cost = cost or _FREE
    if is_ragged:
        items = _alike(_able(items, cost, now_s, late), max_rows, max_cells, cost)
    return Picked(_fill(items, max_rows, max_cells, cost, now_s, late), late)


def _able(items: Iterable[W], cost: Cost, now_s: float, late: list[W]) -> list[W]:
    """The items that can finish in time; the others are added to `late`."""
    able: list[W] = []
    for item in items:
        is_late = now_s + cost.alone(item.rows * item.length) > item.deadline_s
        (late if is_late else able).append(item)
    return able


def _alike(waiting: Sequence[W], max_rows: int, max_cells: float, cost: Cost) -> Sequence[W]:
    """The items of the first one's group and range of lengths."""
    mates = [item for item in waiting if item.group == waiting[0].group]
    if all(item.length == mates[0].length for item in mates):
        return mates
    dear = cost if cost.cell_s else Cost(0.0, 1.0)
    shortest, longest = _range_of(mates[0].length, mates, max_rows, max_cells, dear)
    return [item for item in mates if shortest <= item.length <= longest]


def _fill(
    items: Iterable[W], max_rows: int, max_cells: float, cost: Cost, now_s: float, late: list[W]
) -> list[W]:
    """Fill a batch in one loop over plain numbers, since it runs for each item."""
    batch: list[W] = []
    rows = longest = 0
    tightest_s = inf
    base_s, cell_s, margin_s = cost.base_s, cost.cell_s, cost.margin_s
    for item in items:
        more = rows + item.rows
        length = max(longest, item.length)
        deadline_s = item.deadline_s
        cells = more * length
        ends_s = now_s + base_s + cell_s * cells
        if not batch:
            if ends_s > deadline_s and now_s + cost.alone(cells) > deadline_s:
                late.append(item)
                continue
            # An item in a hurry must not leave almost alone where others would delay it by little.
            tightest_s = max(deadline_s, ends_s + HURRY_SHARE * (ends_s - now_s) + margin_s)
        else:
            tighter_s = min(tightest_s, deadline_s)
            if (
                more > max_rows
                or cells > max_cells
                or ends_s + margin_s > tighter_s
                or item.group != batch[0].group
            ):
                continue
            tightest_s = tighter_s
        batch.append(item)
        rows = more
        longest = length
        if rows == max_rows:
            break
    return batch


def _range_of(
    length: int, mates: Sequence[Waiting], max_rows: int, max_cells: float, cost: Cost
) -> tuple[int, int]:
    """The range that `length` is in, by the cut that runs all of `mates` in the least time."""
    steps = _steps(mates)
    least_s = [0.0]  # of the first so many steps
    begins = [0]  # of the last range of these steps
    for end in range(1, len(steps) + 1):
        longest = steps[end - 1].longest
        rows = 0
        best_s = inf
        best_begin = 0
        for begin in range(end - 1, -1, -1):
            rows += steps[begin].rows
            batches = ceil(rows / rows_of_a_batch(longest, max_rows, max_cells))
            run_s = (
                least_s[begin] + batches * (cost.base_s + cost.gap_s) + rows * longest * cost.cell_s
            )
            if run_s < best_s:
                best_s = run_s
                best_begin = begin
        least_s.append(best_s)
        begins.append(best_begin)
    end = len(steps)
    while steps[begins[end]].shortest > length:
        end = begins[end]
    return steps[begins[end]].shortest, steps[end - 1].longest


class _Step(NamedTuple):
    shortest: int
    longest: int
    rows: int


def _steps(mates: Sequence[Waiting]) -> list[_Step]:
    """The waiting lengths, shortest first, near ones together."""
    rows: Counter[int] = Counter()
    for item in mates:
        rows[item.length] += item.rows
    steps: list[_Step] = []
    for length in sorted(rows):
        if steps and length <= steps[-1].shortest * 2 ** (1 / _STEPS_AN_OCTAVE):
            steps[-1] = _Step(steps[-1].shortest, length, steps[-1].rows + rows[length])
        else:
            steps.append(_Step(length, length, rows[length]))
    return steps
