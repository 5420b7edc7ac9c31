"""Finds the structure of a JSON text with numpy before anything is built from it.

A parser builds objects from whatever a stranger nested, and holds the interpreter meanwhile; numpy
does neither. Strings are found by their quotes; only the parser checks that the text is JSON.
"""

from typing import NamedTuple

import numpy as np

from headrace.errors import BadJson
from headrace.inference.tensor import Array

__all__ = ["MAX_DEPTH", "MAX_ELEMENTS", "Structure", "arrays_in", "scan"]

MAX_DEPTH = 64
MAX_KEYS = 10_000
MAX_ELEMENTS = 2_000_000
MAX_ARRAYS = 1_000_000

# Scanned in one piece, so that other threads run in between and little memory is taken.
_BLOCK_BYTES = 1 << 20
_BACKSLASH = ord("\\")
OPEN, CLOSE, COMMA, COLON, QUOTE = 1, 2, 3, 4, 5
# The limit of each class, those in strings included.
_LIMITS = np.array([2**62, MAX_ARRAYS, MAX_ARRAYS, MAX_ELEMENTS, MAX_ELEMENTS, MAX_ELEMENTS])
_CLASSES = np.zeros(256, np.uint8)
_CLASSES[list(b"[{")] = OPEN
_CLASSES[list(b"]}")] = CLOSE
_CLASSES[ord(",")] = COMMA
_CLASSES[ord(":")] = COLON
_CLASSES[ord('"')] = QUOTE


class Structure(NamedTuple):
    """Offsets, kinds, and the depth behind each, of the brackets and commas outside strings: [n].

    `quotes` [2 m] are the offsets of the quotes around strings. Offsets rise, and are int32.
    """

    offsets: Array
    kinds: Array
    depth: Array
    quotes: Array


def scan(body: bytes, block_bytes: int = _BLOCK_BYTES) -> Structure:
    """Find the structure. Raises BadJson beyond a limit: depth, arrays, elements or keys."""
    text = np.frombuffer(body, np.uint8)
    offsets, kinds = _marks(text, block_bytes)
    is_quote = kinds == QUOTE
    is_quote[is_quote] = _are_unescaped(text, offsets[is_quote], block_bytes)
    outside = (kinds != QUOTE) & (np.cumsum(is_quote, dtype=np.int32) % 2 == 0)
    quotes = offsets[is_quote]
    offsets = offsets[outside]
    kinds = kinds[outside]
    if np.count_nonzero(kinds == COLON) > MAX_KEYS:
        raise BadJson(f"body: expected at most {MAX_KEYS} keys")
    is_listed = kinds != COLON
    offsets = offsets[is_listed]
    kinds = kinds[is_listed]
    depth = np.cumsum((kinds == OPEN).astype(np.int8) - (kinds == CLOSE), dtype=np.int32)
    if len(depth) and depth.max() > MAX_DEPTH:
        raise BadJson(f"body: nested too deeply (limit {MAX_DEPTH})")
    return Structure(offsets, kinds, depth, quotes)


def arrays_in(body: bytes) -> int:
    """Count the brackets that open arrays and objects, those in strings included.

    `[` and `{` differ in one bit: this takes a fifth of the time of counting each. Every small body
    is counted.
    """
    return int(np.count_nonzero((np.frombuffer(body, np.uint8) | 0x20) == ord("{")))


def _marks(text: Array, block_bytes: int) -> tuple[Array, Array]:
    """Offsets and kinds of all brackets, commas, colons and quotes. Raises BadJson for too many."""
    offsets = []
    kinds = []
    counts = np.zeros(len(_LIMITS), np.int64)
    for start in range(0, len(text) or 1, block_bytes):
        classes = _CLASSES[text[start : start + block_bytes]]
        here = np.flatnonzero(classes).astype(np.int32)
        offsets.append(here + np.int32(start))
        kinds.append(classes[here])
        counts += np.bincount(kinds[-1], minlength=len(_LIMITS))
        if (counts > _LIMITS).any():
            raise BadJson(
                f"body: expected at most {MAX_ELEMENTS} elements and {MAX_ARRAYS} arrays; "
                "send tensors as binary"
            )
    return np.concatenate(offsets), np.concatenate(kinds)


def _are_unescaped(text: Array, quotes: Array, block_bytes: int) -> Array:
    """For each quote, True if an even number of backslashes stands before it."""
    before = quotes - 1  # -1 before a quote at 0: that is in no block, so its run stays 0
    if not (text[before] == _BACKSLASH).any():
        return np.ones(len(quotes), bool)
    runs = np.zeros(len(quotes), np.int64)
    last_other = -1
    for start in range(0, len(text), block_bytes):
        block = text[start : start + block_bytes]
        others = np.where(block == _BACKSLASH, -1, np.arange(start, start + len(block)))
        others[0] = max(others[0], last_other)
        others = np.maximum.accumulate(others)
        last_other = int(others[-1])
        here = slice(*np.searchsorted(before, (start, start + len(block))))
        runs[here] = before[here] - others[before[here] - start]
    even: Array = runs % 2 == 0
    return even
