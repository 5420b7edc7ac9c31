"""Parts of requests into one batch, and a batch's outputs back into parts. Pure numpy, run in the executor's thread."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from headrace.tensor import Array
from headrace_models.spec import InputSpec

__all__ = ["Part", "group_of", "join", "rows_of", "split_rows", "take_rows"]

# The inputs of some rows of one request: name -> [rows, *shape].
Part = Mapping[str, Array]


def rows_of(part: Part) -> int:
    return len(next(iter(part.values())))


def group_of(part: Part, inputs: Sequence[InputSpec]) -> Hashable:
    """What parts must share to travel in one batch: the shapes of all inputs that cannot be padded."""
    return tuple(part[i.name].shape[1:] for i in inputs if i.pad is None and -1 in i.shape) or None


def join(parts: Sequence[Part], inputs: Sequence[InputSpec]) -> dict[str, Array]:
    """The batch `[n, *shape]` of each input; shorter rows are padded up to the longest. Always a copy."""
    return {i.name: _stack([part[i.name] for part in parts], i.pad) for i in inputs}


def _stack(arrays: list[Array], pad: float | None) -> Array:
    if pad is None or all(a.shape[1:] == arrays[0].shape[1:] for a in arrays):
        return np.concatenate(arrays)
    longest = tuple(map(max, zip(*(a.shape[1:] for a in arrays), strict=True)))
    batch = np.full((sum(len(a) for a in arrays), *longest), pad, arrays[0].dtype)
    start = 0
    for array in arrays:
        batch[(slice(start, start + len(array)), *(slice(length) for length in array.shape[1:]))] = array
        start += len(array)
    return batch


def split_rows(part: Part, max_rows: int) -> list[Part]:
    """A part larger than a batch, in pieces that fit."""
    rows = rows_of(part)
    if rows <= max_rows:
        return [part]
    return [{name: a[i : i + max_rows] for name, a in part.items()} for i in range(0, rows, max_rows)]


def take_rows(outputs: Part, sizes: Sequence[int]) -> list[Part]:
    """A batch's outputs cut back into parts of these many rows: views, in order."""
    ends = np.cumsum(sizes)
    return [
        {name: a[end - size : end] for name, a in outputs.items()}
        for size, end in zip(sizes, ends.tolist(), strict=True)
    ]
