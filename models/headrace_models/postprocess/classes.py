"""Scores of classes: the best of them, and softmax. Pure numpy, rows `[n, classes]`."""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["best_classes", "softmax"]

Rows = npt.NDArray[Any]


def best_classes(values: Rows, count: int) -> Rows:
    """Indices of the `count` largest values of each row, best first; NaN is last.

    Equal values keep the order of their indices.
    """
    best: Rows = np.argsort(-values.astype(np.float64), axis=1, kind="stable")[:, :count]
    return best


def softmax(values: Rows) -> Rows:
    """Shares of one for each row's values; a row that has an infinite value becomes NaN."""
    with np.errstate(invalid="ignore"):
        shifted = np.exp(values - values.max(axis=1, keepdims=True))
        shares: Rows = shifted / shifted.sum(axis=1, keepdims=True)
    return shares
