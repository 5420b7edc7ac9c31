"""OIP's classification extension: an output as its best classes, best first.

Each is a text `value:index:label`.
"""

import math
from collections.abc import Sequence

import numpy as np

from headrace.errors import AnswerTooLarge
from headrace.inference.tensor import Tensor, from_array, to_array
from headrace_models.postprocess.classes import best_classes

__all__ = ["MAX_CLASSES", "classes_of"]

MAX_CLASSES = 250_000


def classes_of(
    tensor: Tensor, count: int, labels: Sequence[str], *, has_rows: bool = True
) -> Tensor:
    """Turn an output `[n, *shape]` into BYTES `[n, min(count, classes)]`.

    An output without rows becomes `[min(count, classes)]`, unless it has two axes or more: then its
    first axis counts as rows. Values have six decimals, as Triton prints them; those that are not
    finite are `nan`, `inf` and `-inf`. Raises AnswerTooLarge beyond MAX_CLASSES elements.
    """
    is_flat = not has_rows and len(tensor.shape) < 2
    rows = 1 if is_flat else tensor.rows
    classes = math.prod(tensor.shape if is_flat else tensor.shape[1:])
    values = to_array(tensor).reshape(rows, classes).astype(np.float64)
    if rows * min(count, classes) > MAX_CLASSES:
        raise AnswerTooLarge(
            f"classification: expected at most {MAX_CLASSES} classes in all, "
            f"found {rows} x {min(count, classes)}"
        )
    best = best_classes(values, count)
    texts = [
        [_text(row[i], i, labels) for i in order]
        for row, order in zip(values, best.tolist(), strict=True)
    ]
    shape = best.shape[1:] if is_flat else best.shape
    return from_array(tensor.name, np.array(texts, dtype=object).reshape(shape))


def _text(value: float, index: int, labels: Sequence[str]) -> str:
    text = f"{value:f}:{index}"
    return f"{text}:{labels[index]}" if index < len(labels) else text
