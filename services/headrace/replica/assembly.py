"""Parts of requests into one batch, and a batch's outputs back into parts. Pure numpy."""

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import prod

import numpy as np

from headrace.inference.tensor import Array
from headrace_models.spec import InputSpec, ModelSpec

__all__ = ["Part", "group_of", "join", "length_of", "rows_of", "split_rows", "take_rows"]

# The inputs of some rows of one request: name -> [rows, *shape].
Part = Mapping[str, Array]


def rows_of(part: Part) -> int:
    return len(next(iter(part.values())))


def group_of(part: Part, inputs: Sequence[InputSpec]) -> Hashable:
    """The shapes of all inputs that cannot be padded: parts of one batch share them."""
    return tuple(part[i.name].shape[1:] for i in inputs if i.pad is None and -1 in i.shape) or None


def length_of(part: Part, spec: ModelSpec) -> int:
    """The cells of each row, those of the input that varies most; 1 if lengths do not matter.

    A part of a model without batching is one row, whatever its axes.
    """
    if spec.batching.cost == "rows":
        return 1
    if not spec.is_batched:
        return max([1, *(_free_cells(part[i.name].shape, i.whole_shape) for i in spec.inputs)])
    lengths = (
        prod(_free_axes(part, i, spec.batching.buckets)) for i in spec.inputs if -1 in i.shape
    )
    return max([1, *lengths])  # an empty row has a cost, too


def _free_cells(shape: Sequence[int], declared: Sequence[int]) -> int:
    return prod(length for length, axis in zip(shape, declared, strict=True) if axis == -1)


def _is_padded(tensor: InputSpec) -> bool:
    return tensor.pad is not None and -1 in tensor.shape


def _free_axes(part: Part, tensor: InputSpec, buckets: Sequence[int]) -> Iterator[int]:
    axes = zip(part[tensor.name].shape[1:], tensor.shape, strict=True)
    buckets = buckets if tensor.pad is not None else ()
    return (_edge(length, buckets) for length, declared in axes if declared == -1)


def _edge(length: int, buckets: Sequence[int]) -> int:
    """The length of the smallest bucket that holds this length; the length itself if none does."""
    index = bisect_left(buckets, length)
    return buckets[index] if index < len(buckets) else length


def join(parts: Sequence[Part], spec: ModelSpec) -> dict[str, Array]:
    """The batch `[n, *shape]` of each input; shorter rows are padded to the longest. A copy."""
    return {
        i.name: _stack([part[i.name] for part in parts], i, spec.batching.buckets)
        for i in spec.inputs
    }


def _stack(arrays: list[Array], tensor: InputSpec, buckets: Sequence[int]) -> Array:
    if not _is_padded(tensor):
        return np.concatenate(arrays)
    widest = map(max, zip(*(a.shape[1:] for a in arrays), strict=True))
    longest = [
        _edge(w, buckets) if declared == -1 else w
        for w, declared in zip(widest, tensor.shape, strict=True)
    ]
    if all(list(a.shape[1:]) == longest for a in arrays):
        return np.concatenate(arrays)
    batch = np.full((sum(len(a) for a in arrays), *longest), tensor.pad, arrays[0].dtype)
    start = 0
    for array in arrays:
        batch[
            (slice(start, start + len(array)), *(slice(length) for length in array.shape[1:]))
        ] = array
        start += len(array)
    return batch


def split_rows(part: Part, max_rows: int) -> list[Part]:
    """Split a part into pieces that fit a batch."""
    rows = rows_of(part)
    if rows <= max_rows:
        return [part]
    return [
        {name: a[i : i + max_rows] for name, a in part.items()} for i in range(0, rows, max_rows)
    ]


def take_rows(outputs: Part, parts: Sequence[Part], batch: Part, spec: ModelSpec) -> list[Part]:
    """Split a batch's outputs into views for its parts, in order, cut to their own lengths."""
    sizes = [rows_of(part) for part in parts]
    starts = accumulate(sizes, initial=0)
    taken: list[Part] = [
        {name: a[start : start + size] for name, a in outputs.items()}
        for start, size in zip(starts, sizes, strict=False)
    ]
    ragged = [o.name for o in spec.outputs if -1 in o.shape and o.name in outputs]
    if not ragged or not any(_is_padded(i) for i in spec.inputs):
        return taken
    return [
        _cut_back(rows, part, batch, spec, ragged) for rows, part in zip(taken, parts, strict=True)
    ]


def _cut_back(rows: Part, part: Part, batch: Part, spec: ModelSpec, ragged: Sequence[str]) -> Part:
    own_lengths: dict[int, int] = {}
    for tensor in filter(_is_padded, spec.inputs):
        for padded, own, declared in zip(
            batch[tensor.name].shape[1:], part[tensor.name].shape[1:], tensor.shape, strict=True
        ):
            if declared == -1:
                # Of padded axes alike, the longer counts: padding harms less than a loss.
                own_lengths[padded] = max(own, own_lengths.get(padded, 0))
    shapes = {o.name: o.shape for o in spec.outputs}
    cut = {}
    for name in ragged:
        axes = zip(rows[name].shape[1:], shapes[name], strict=True)
        own = (slice(own_lengths.get(n, n) if declared == -1 else n) for n, declared in axes)
        cut[name] = rows[name][(slice(None), *own)]
    return {**rows, **cut}
