"""Long number arrays of a large JSON text, lifted out of it and read piece by piece.

No JSON parser for Python lets other threads run while it works, so one long array would hold the event loop. Pieces of
so many bytes are read in a few milliseconds, with everybody else's turn between them.
"""

import json
import math
import secrets
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import simdjson

from headrace.errors import BadJson, BadRequest
from headrace.gateway.json.scan import CLOSE, COMMA, OPEN, Structure
from headrace.inference.tensor import Array

__all__ = ["Lifted", "lift", "put_back", "read_float"]

_LIFT_BYTES = 16 << 10
_PIECE_BYTES = 128 << 10
# One number, with the spaces and brackets about it: what no comma divides is read in one piece.
_MAX_NUMBER_BYTES = 1 << 20
_NO_BRACKETS = bytes.maketrans(b"[]", b"  ")
# What stands in the text for what was lifted; nobody can know it beforehand.
_MARK = secrets.token_hex(8)


class Lifted:
    """The text of one array between `start` and `end` of `body`, its brackets included."""

    def __init__(self, body: bytes, start: int, end: int, structure: Structure) -> None:
        self._body = body
        self._start, self._end = start, end
        inside = slice(*np.searchsorted(structure.places, (start, end)))
        self._places, self._kinds = structure.places[inside], structure.kinds[inside]
        self._depth = structure.depth[inside] - structure.depth[inside.start] + 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths along the first elements, which is the shape if the nesting is regular: see `is_nested`."""
        rank = int(np.flatnonzero(self._kinds != OPEN)[0])
        lengths = []
        for level in range(1, rank + 1):
            end = int(np.flatnonzero((self._kinds == CLOSE) & (self._depth == level - 1))[0])
            lengths.append(
                int(np.count_nonzero((self._kinds[:end] == COMMA) & (self._depth[:end] == level)))
                + 1
            )
        return tuple(lengths)

    def is_nested(self, shape: Sequence[int]) -> bool:
        """True if the array is flat, or nested exactly as `shape` says."""
        opens, closes = self._kinds == OPEN, self._kinds == CLOSE
        if np.count_nonzero(opens) == 1:
            return True
        commas = np.cumsum(self._kinds == COMMA)  # as many as elements end before a place
        begin, begin_level = commas[opens], self._depth[opens]
        end, end_level = commas[closes], self._depth[closes] + 1
        for axis in range(len(shape)):
            size = math.prod(shape[axis:])
            begins = np.arange(math.prod(shape[:axis])) * size
            if not np.array_equal(begin[begin_level == axis + 1], begins):
                return False
            if not np.array_equal(end[end_level == axis + 1], begins + size - 1):
                return False
        return int(begin_level.max()) == len(shape)

    def numbers(self, kind: Literal["d", "i", "u"], place: str) -> Array:
        """All numbers, flat, as `kind` of simdjson's buffers: "d", "i" or "u". Raises BadRequest naming `place`."""
        commas = self._places[self._kinds == COMMA]
        if np.diff(commas, prepend=self._start, append=self._end).max() > _MAX_NUMBER_BYTES:
            raise BadRequest(
                f"{place}: expected at most {_MAX_NUMBER_BYTES} bytes between its commas"
            )
        steps = np.searchsorted(
            commas, np.arange(self._start + _PIECE_BYTES, self._end, _PIECE_BYTES)
        )
        cuts = [self._start, *commas[steps[steps < len(commas)]].tolist(), self._end]
        pieces = [self._piece(a + (a != self._start), b, kind, place) for a, b in pairwise(cuts)]
        numbers = np.concatenate(pieces)
        if len(numbers) != len(commas) + 1:
            raise BadRequest(f"{place}: expected numbers between its commas")
        return numbers

    def _piece(self, start: int, end: int, kind: Literal["d", "i", "u"], place: str) -> Array:
        text = b"[" + self._body[start:end].translate(_NO_BRACKETS) + b"]"
        dtype = {"d": "<f8", "i": "<i8", "u": "<u8"}[kind]
        try:
            array = simdjson.Parser().parse(text)
            assert isinstance(array, simdjson.Array)
            return np.frombuffer(array.as_buffer(of_type=kind), dtype)
        except TypeError:
            raise BadRequest(
                f"{place}: expected {'numbers' if kind == 'd' else 'integers'} only"
            ) from None
        except (ValueError, RuntimeError):
            return _lenient(text, dtype, place)


def _lenient(text: bytes, dtype: str, place: str) -> Array:
    """The bare tokens NaN and Infinity, and integers beyond 64 bits."""
    try:
        values = json.loads(text, parse_float=read_float)
    except ValueError:
        raise BadJson(f"{place}: expected JSON, found something else") from None
    allowed = (int, float) if dtype == "<f8" else (int,)
    if not all(type(value) in allowed for value in values):
        raise BadRequest(f"{place}: expected {'numbers' if dtype == '<f8' else 'integers'} only")
    try:
        return np.array(values, dtype)
    except OverflowError:
        raise BadRequest(f"{place}: an integer is out of range") from None


def read_float(text: str) -> float:
    """A JSON number with a fraction or an exponent. Raises BadJson beyond 64 bits: infinity is what says so itself."""
    if math.isinf(number := float(text)):
        raise BadJson("body: a number is out of range")
    return number


def lift(body: bytes, structure: Structure) -> tuple[bytes, list[Lifted]]:
    """The text with a mark in the place of each long array that has no strings in it, and those arrays."""
    edges = np.concatenate([[0], structure.quotes, [len(body)]])
    starts, ends = edges[:-1:2], edges[1::2]  # what lies between strings
    parts: list[bytes] = []
    lifted: list[Lifted] = []
    done = 0
    starts, ends = starts[: len(ends)], ends[: len(starts)]
    is_long = ends - starts >= _LIFT_BYTES
    for start, end in zip(starts[is_long].tolist(), ends[is_long].tolist(), strict=True):
        span = _outermost(structure, start, end)
        if span is None or span[1] - span[0] < _LIFT_BYTES:
            continue
        parts += (body[done : span[0]], f'"{_MARK}:{len(lifted)}"'.encode())
        lifted.append(Lifted(body, *span, structure))
        done = span[1]
    return b"".join((*parts, body[done:])), lifted


def _outermost(structure: Structure, start: int, end: int) -> tuple[int, int] | None:
    """Where the first array that begins between two strings begins and ends, if it ends there too."""
    first, last = np.searchsorted(structure.places, (start, end)).tolist()
    opens = np.flatnonzero(structure.kinds[first:last] == OPEN)
    if not len(opens):
        return None
    begin = first + int(opens[0])
    behind = structure.depth[begin:last] < structure.depth[begin]
    if not behind.any():
        return None
    return int(structure.places[begin]), int(structure.places[begin + int(behind.argmax())]) + 1


def put_back(value: object, lifted: Sequence[Lifted]) -> object:
    """A parsed text with the lifted arrays in the places of their marks. It is no deeper than MAX_DEPTH."""
    if isinstance(value, str) and value.startswith(_MARK):
        return lifted[int(value.removeprefix(f"{_MARK}:"))]
    if isinstance(value, dict):
        return {key: put_back(item, lifted) for key, item in value.items()}
    return [put_back(item, lifted) for item in value] if isinstance(value, list) else value
