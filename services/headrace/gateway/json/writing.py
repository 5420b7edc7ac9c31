"""Writes long JSON arrays in pieces: no other thread runs during one call of the JSON writer."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np
import orjson

from headrace.inference.tensor import Array

__all__ = ["json_array", "rows_in_pieces"]

# Elements that one call writes, in some milliseconds.
_PIECE = 65_536

T = TypeVar("T")


def json_array(array: Array) -> Array | orjson.Fragment:
    """A numeric array as the writer takes it: itself if it is short, else its JSON."""
    if array.dtype.kind == "V":
        array = array.astype("<f4")  # BF16: the writer knows only numpy's own types
    if array.size <= _PIECE:
        return array
    step = max(1, _PIECE * len(array) // array.size)
    return _joined(np.split(array, range(step, len(array), step)))


def rows_in_pieces(rows: Iterable[object], elements_each: int) -> orjson.Fragment:
    """The JSON of rows, made while it is written; each has about `elements_each` elements."""
    return _joined(_batches(rows, max(1, _PIECE // max(1, elements_each))))


def _joined(pieces: Iterable[object]) -> orjson.Fragment:
    """One JSON array with the elements of non-empty ones."""
    written = (orjson.dumps(piece, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] for piece in pieces)
    return orjson.Fragment(b"[" + b",".join(written) + b"]")


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
