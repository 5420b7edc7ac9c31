"""OIP's classification extension: an output as its best classes, `value:index:label` each, best first."""

import math
from collections.abc import Sequence

import numpy as np

from headrace.errors import AnswerTooLarge
from headrace.inference.tensor import Array, Tensor, from_array, to_array

__all__ = ["MAX_CLASSES", "best_of", "classes_of"]

MAX_CLASSES = 250_000


def classes_of(
    tensor: Tensor, count: int, labels: Sequence[str], *, has_rows: bool = True
) -> Tensor:
    """An output `[n, *shape]` as BYTES `[n, min(count, classes)]`. Raises AnswerTooLarge beyond MAX_CLASSES elements.

    One that has no rows is `[min(count, classes)]`, unless it is a table: then each of its first axis is a row.
    Values have six decimals, as Triton prints them; those that are none are `nan`, `inf` and `-inf`.
    """
    is_flat = not has_rows and len(tensor.shape) < 2
    rows = 1 if is_flat else tensor.rows
    values = (
        to_array(tensor)
        .reshape(rows, math.prod(tensor.shape[0 if is_flat else 1 :]))
        .astype(np.float64)
    )
    if rows * min(count, values.shape[1]) > MAX_CLASSES:
        raise AnswerTooLarge(f"classification: expected at most {MAX_CLASSES} elements")
    best = best_of(values, count)
    named = [
        [_named(row[i], i, labels) for i in order]
        for row, order in zip(values, best.tolist(), strict=True)
    ]
    return from_array(tensor.name, np.array(named, dtype=object).reshape(best.shape[is_flat:]))


def best_of(values: Array, count: int) -> Array:
    """The places of the `count` largest of each row `[n, classes]`, best first; NaN is last.

    Equal values keep the order of their indices.
    """
    best: Array = np.argsort(-values.astype(np.float64), axis=1, kind="stable")[:, :count]
    return best


def _named(value: float, index: int, labels: Sequence[str]) -> str:
    text = f"{value:f}:{index}"
    return f"{text}:{labels[index]}" if index < len(labels) else text
