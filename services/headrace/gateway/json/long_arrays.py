"""Lifts long arrays of numbers out of a large JSON text, and reads them in pieces.

No JSON parser for Python lets other threads run meanwhile, so one long array would hold the event
loop. A piece takes a few milliseconds, and other threads run in between.
"""

import json
import math
import secrets
from collections.abc import Sequence
from typing import Literal

import numpy as np
import simdjson

from headrace.errors import BadJson, BadRequest
from headrace.gateway.json.scan import CLOSE, COMMA, OPEN, Structure
from headrace.inference.tensor import Array

__all__ = ["LongArray", "lift", "put_back", "read_float"]

_LIFT_BYTES = 16 << 10
_PIECE_BYTES = 128 << 10
# One number with the spaces and brackets around it, which are read in one piece.
_MAX_NUMBER_BYTES = 1 << 20
_NO_BRACKETS = bytes.maketrans(b"[]", b"  ")
# Stands in the text for a lifted array; nobody can guess it.
_MARK = secrets.token_hex(8)


class LongArray:
    """The text of one array, with its brackets: `body` from `start` to `end`."""

    def __init__(self, body: bytes, start: int, end: int, structure: Structure) -> None:
        self._body = body
        self._start = start
        self._end = end
        inside = slice(*np.searchsorted(structure.offsets, (start, end)))
        self._offsets = structure.offsets[inside]
        self._kinds = structure.kinds[inside]
        self._depth = structure.depth[inside] - structure.depth[inside.start] + 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths along the first elements: the shape, if the nesting is regular."""
        rank = int(np.flatnonzero(self._kinds != OPEN)[0])
        lengths = []
        for level in range(1, rank + 1):
            end = int(np.flatnonzero((self._kinds == CLOSE) & (self._depth == level - 1))[0])
            is_comma = (self._kinds[:end] == COMMA) & (self._depth[:end] == level)
            lengths.append(int(np.count_nonzero(is_comma)) + 1)
        return tuple(lengths)

    def is_nested(self, shape: Sequence[int]) -> bool:
        """True if the array is flat, or nested exactly as `shape` says."""
        opens = self._kinds == OPEN
        closes = self._kinds == CLOSE
        if np.count_nonzero(opens) == 1:
            return True
        commas = np.cumsum(self._kinds == COMMA)  # the index of the element at each bracket
        firsts = commas[opens]
        lasts = commas[closes]
        open_levels = self._depth[opens]
        close_levels = self._depth[closes] + 1
        for axis in range(len(shape)):
            size = math.prod(shape[axis:])
            expected = np.arange(math.prod(shape[:axis])) * size
            if not np.array_equal(firsts[open_levels == axis + 1], expected):
                return False
            if not np.array_equal(lasts[close_levels == axis + 1], expected + size - 1):
                return False
        return int(open_levels.max()) == len(shape)

    def numbers(self, kind: Literal["d", "i", "u"], where: str) -> Array:
        """All numbers, flat, as a kind of simdjson's buffers. Raises BadRequest naming `where`."""
        commas = self._offsets[self._kinds == COMMA]
        if np.diff(commas, prepend=self._start, append=self._end).max() > _MAX_NUMBER_BYTES:
            raise BadRequest(
                f"{where}: expected at most {_MAX_NUMBER_BYTES} bytes between its commas"
            )
        every_piece = np.arange(self._start + _PIECE_BYTES, self._end, _PIECE_BYTES)
        indices = np.searchsorted(commas, every_piece)
        cuts = commas[indices[indices < len(commas)]].tolist()
        starts = [self._start, *(cut + 1 for cut in cuts)]  # a piece begins behind its comma
        ends = [*cuts, self._end]
        numbers = np.concatenate(
            [self._piece(start, end, kind, where) for start, end in zip(starts, ends, strict=True)]
        )
        if len(numbers) != len(commas) + 1:
            raise BadRequest(f"{where}: expected numbers between its commas")
        return numbers

    def _piece(self, start: int, end: int, kind: Literal["d", "i", "u"], where: str) -> Array:
        text = b"[" + self._body[start:end].translate(_NO_BRACKETS) + b"]"
        dtype = {"d": "<f8", "i": "<i8", "u": "<u8"}[kind]
        try:
            array = simdjson.Parser().parse(text)
            assert isinstance(array, simdjson.Array)
            return np.frombuffer(array.as_buffer(of_type=kind), dtype)
        except TypeError:
            raise BadRequest(
                f"{where}: expected {'numbers' if kind == 'd' else 'integers'} only"
            ) from None
        except (ValueError, RuntimeError):
            return _lenient(text, dtype, where)


def _lenient(text: bytes, dtype: str, where: str) -> Array:
    """Read what simdjson refuses: NaN and Infinity as bare tokens, integers beyond 64 bits."""
    try:
        values = json.loads(text, parse_float=read_float)
    except ValueError:
        raise BadJson(f"{where}: expected JSON, found something else") from None
    allowed = (int, float) if dtype == "<f8" else (int,)
    if not all(type(value) in allowed for value in values):
        raise BadRequest(f"{where}: expected {'numbers' if dtype == '<f8' else 'integers'} only")
    try:
        return np.array(values, dtype)
    except OverflowError:
        raise BadRequest(f"{where}: an integer is out of range") from None


def read_float(text: str) -> float:
    """A JSON number with a fraction or an exponent. Raises BadJson if it is beyond 64 bits."""
    if math.isinf(number := float(text)):
        raise BadJson("body: a number is out of range")
    return number


def lift(
    body: bytes, structure: Structure, min_bytes: int = _LIFT_BYTES
) -> tuple[bytes, list[LongArray]]:
    """The text with a mark in place of each long array without strings, and those arrays."""
    edges = np.concatenate([[0], structure.quotes, [len(body)]])
    starts = edges[:-1:2]  # of the spans between strings
    ends = edges[1::2]
    starts = starts[: len(ends)]  # a string may be unterminated
    ends = ends[: len(starts)]
    parts: list[bytes] = []
    long_arrays: list[LongArray] = []
    done = 0
    is_long = ends - starts >= min_bytes
    for start, end in zip(starts[is_long].tolist(), ends[is_long].tolist(), strict=True):
        span = _outermost(structure, start, end)
        if span is None or span[1] - span[0] < min_bytes:
            continue
        parts += (body[done : span[0]], f'"{_MARK}:{len(long_arrays)}"'.encode())
        long_arrays.append(LongArray(body, *span, structure))
        done = span[1]
    return b"".join((*parts, body[done:])), long_arrays


def _outermost(structure: Structure, start: int, end: int) -> tuple[int, int] | None:
    """The start and end of the first array between two strings, if it ends before the second."""
    first, last = np.searchsorted(structure.offsets, (start, end)).tolist()
    opens = np.flatnonzero(structure.kinds[first:last] == OPEN)
    if not len(opens):
        return None
    begin = first + int(opens[0])
    is_behind = structure.depth[begin:last] < structure.depth[begin]
    if not is_behind.any():
        return None
    close = begin + int(is_behind.argmax())
    return int(structure.offsets[begin]), int(structure.offsets[close]) + 1


def put_back(value: object, long_arrays: Sequence[LongArray]) -> object:
    """A parsed text, at most MAX_DEPTH deep, with the lifted arrays in place of their marks."""
    if isinstance(value, str) and value.startswith(_MARK):
        return long_arrays[int(value.removeprefix(f"{_MARK}:"))]
    if isinstance(value, dict):
        return {key: put_back(item, long_arrays) for key, item in value.items()}
    return [put_back(item, long_arrays) for item in value] if isinstance(value, list) else value
