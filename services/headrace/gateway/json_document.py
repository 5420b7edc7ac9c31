"""JSON in: one strict parse, and number arrays that go straight into numpy without a Python object per number."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import simdjson

from headrace.errors import BadRequest
from headrace.tensor import Array, pack_bytes
from headrace_models.spec import DTYPES

__all__ = ["elements", "objects", "parameters_of", "parse", "plain", "text", "whole"]

# numpy kind -> the widest type of that kind, which JSON numbers are read into before they are narrowed.
_WIDEST = {"b": "?", "f": "<f8", "i": "<i8", "u": "<u8"}


def parse(body: bytes | memoryview) -> Mapping[str, object]:
    """The document as an object whose arrays stay unread. Raises BadRequest if it is not a JSON object."""
    # A parser per document: a shared one may not be used again while anything, a traceback say, holds its last one.
    document: object
    try:
        document = simdjson.Parser().parse(body)
    except (ValueError, RuntimeError):
        document = _lenient(bytes(body))
    if not isinstance(document, simdjson.Object | dict):
        raise BadRequest(f"body: expected a JSON object, found {_kind(document)}")
    return document


def _lenient(body: bytes) -> object:
    """What simdjson does not read: the bare tokens NaN and Infinity of real clients, and integers beyond 64 bits."""
    try:
        document: object = json.loads(body)
        json.dumps(document, ensure_ascii=False).encode()  # half a character is no text that could be answered with
        return document
    except (ValueError, RecursionError) as error:
        where = f" (byte {error.pos})" if isinstance(error, json.JSONDecodeError) else ""
        raise BadRequest(f"body: expected JSON, found something else{where}") from None


def plain(value: object) -> object:
    """A value as Python lists and dictionaries."""
    if isinstance(value, simdjson.Array):
        return value.as_list()
    return value.as_dict() if isinstance(value, simdjson.Object) else value


def objects(value: object, place: str) -> Sequence[Mapping[str, object]]:
    """A non-empty array of objects."""
    items = list(value) if isinstance(value, (simdjson.Array, list)) else []
    if not items or not all(isinstance(item, (simdjson.Object, dict)) for item in items):
        raise BadRequest(f"{place}: expected a non-empty array of objects")
    return items


def parameters_of(item: Mapping[str, object], place: str) -> Mapping[str, object]:
    value = item.get("parameters")
    if value is None:
        return {}
    parameters = plain(value)
    if not isinstance(parameters, dict):
        raise BadRequest(f"{place}: expected an object")
    return parameters


def whole(value: object, place: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise BadRequest(f"{place}: expected an integer of 0 or more")
    return value


def text(value: object, place: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 1024:
        raise BadRequest(f"{place}: expected a string of at most 1024 characters")
    return value


def elements(data: object, datatype: str, place: str) -> Array | bytes:
    """All elements of a flat or nested array, flat, in the datatype's own dtype; BYTES come packed.

    Raises BadRequest, naming `place`, for what is no array, no number, or out of the datatype's range.
    """
    if not isinstance(data, simdjson.Array | list):
        raise BadRequest(f"{place}: expected an array, found {_kind(data)}")
    if datatype == "BYTES":
        return pack_bytes(_texts(data, place))
    dtype = DTYPES[datatype]
    if isinstance(data, simdjson.Array) and dtype.kind != "b":
        return _in_range(_buffer(data, _kind_of(dtype), place), dtype, datatype, place)
    return _in_range(_slow(data, dtype, place), dtype, datatype, place)


def _kind_of(dtype: "np.dtype[np.generic]") -> str:
    return "f" if dtype.kind == "V" else dtype.kind  # BF16 is none of numpy's own


def _buffer(data: "simdjson.Array", kind: str, place: str) -> Array:
    try:
        buffer = data.as_buffer(of_type="d" if kind == "f" else "i" if kind == "i" else "u")
    except TypeError:
        expected = "numbers" if kind == "f" else "integers"
        raise BadRequest(f"{place}: expected {expected} only") from None
    except ValueError:
        raise BadRequest(f"{place}: an integer is out of range") from None
    return np.frombuffer(buffer, _WIDEST[kind])


def _slow(data: object, dtype: "np.dtype[np.generic]", place: str) -> Array:
    """Booleans, and documents with NaN in them, element by element."""
    flat = list(_flat(plain(data)))
    kinds: tuple[type, ...] = {"b": (bool,), "f": (int, float)}.get(_kind_of(dtype), (int,))
    for i, value in enumerate(flat):
        if not isinstance(value, kinds) or (isinstance(value, bool) and dtype.kind != "b"):
            raise BadRequest(f"{place}[{i}]: expected {' or '.join(k.__name__ for k in kinds)}, found {_kind(value)}")
    try:
        return np.array(flat, _WIDEST[_kind_of(dtype)])
    except OverflowError:
        raise BadRequest(f"{place}: an integer is out of range") from None


def _in_range(values: Array, dtype: "np.dtype[np.generic]", datatype: str, place: str) -> Array:
    if values.dtype == dtype:
        return values
    if _kind_of(dtype) == "f":
        with np.errstate(over="ignore"):
            narrow = values.astype(dtype)
        fits = bool(np.isfinite(narrow).all()) or bool(np.array_equal(np.isfinite(narrow), np.isfinite(values)))
    else:
        limits = np.iinfo(dtype.str)
        fits = not values.size or bool(values.min() >= limits.min and values.max() <= limits.max)
        narrow = values.astype(dtype)
    if not fits:
        raise BadRequest(f"{place}: a value is out of range for {datatype}")
    return narrow


def _texts(data: object, place: str) -> list[str]:
    texts: list[str] = []
    for i, value in enumerate(_flat(plain(data))):
        if not isinstance(value, str):
            raise BadRequest(f"{place}[{i}]: expected a string, found {_kind(value)}")
        texts.append(value)
    return texts


def _flat(value: object) -> Sequence[object]:
    """Nested lists, flattened in one pass, without recursion on what a stranger nested."""
    flat: list[object] = []
    open_lists = [iter(value if isinstance(value, list) else [value])]
    while open_lists:
        for item in open_lists[-1]:
            if isinstance(item, list):
                open_lists.append(iter(item))
                break
            flat.append(item)
        else:
            open_lists.pop()
    return flat


def _kind(value: object) -> str:
    names: list[tuple[type | tuple[type, ...], str]] = [
        (bool, "a boolean"),
        ((int, float), "a number"),
        (str, "a string"),
        ((list, simdjson.Array), "an array"),
        ((dict, simdjson.Object), "an object"),
    ]
    return next((name for kind, name in names if isinstance(value, kind)), "null")
