"""Reads the elements of a JSON array into numpy, without a Python object per number."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import simdjson

from headrace.edge.bodies import printable
from headrace.errors import BadRequest
from headrace.gateway.json.long_arrays import LongArray
from headrace.gateway.json.scan import scan
from headrace.inference.tensor import Array, pack_bytes
from headrace_models.spec import DTYPES

__all__ = ["elements", "kind_of", "plain", "printable_name"]

# numpy kind -> its widest type, which JSON numbers are read into before they are narrowed.
_WIDEST = {"b": "?", "f": "<f8", "i": "<i8", "u": "<u8"}
_BUFFER_KINDS: dict[str, Literal["d", "i", "u"]] = {"f": "d", "i": "i", "u": "u"}


def plain(value: object) -> object:
    """A value as Python lists and dictionaries."""
    if isinstance(value, simdjson.Array):
        return value.as_list()
    return value.as_dict() if isinstance(value, simdjson.Object) else value


def elements(data: object, datatype: str, shape: Sequence[int], where: str) -> Array | bytes:
    """The elements of an array, flat or nested as `shape`, in the datatype's dtype; BYTES packed.

    Raises BadRequest, naming `where`, for another nesting, a value that is not of the datatype, or
    one out of its range.
    """
    if not isinstance(data, simdjson.Array | list | LongArray):
        raise BadRequest(f"{where}: expected an array, found {kind_of(data)}")
    if not (data.is_nested(shape) if isinstance(data, LongArray) else _is_nested(data, shape)):
        raise _badly_nested(shape, where)
    dtype = DTYPES[datatype] if datatype != "BYTES" else None
    if isinstance(data, LongArray) and (
        dtype is None or _kind_of_dtype(dtype) not in _BUFFER_KINDS
    ):
        raise BadRequest(
            f"{where}: expected fewer elements of {datatype} in JSON; send them as binary"
        )
    if dtype is None:
        return pack_bytes(_texts(data, where))
    if isinstance(data, LongArray):
        numbers = data.numbers(_BUFFER_KINDS[_kind_of_dtype(dtype)], where)
        return _in_range(numbers, dtype, datatype, where)
    if isinstance(data, simdjson.Array) and _kind_of_dtype(dtype) in _BUFFER_KINDS:
        values = _buffer(data, _kind_of_dtype(dtype), where)
        if len(values) != len(data) and not isinstance(data[0], simdjson.Array):
            raise _badly_nested(shape, where)  # the buffer has the elements of nested ones, too
        return _in_range(values, dtype, datatype, where)
    return _in_range(_slow(data, dtype, where), dtype, datatype, where)


def _kind_of_dtype(dtype: "np.dtype[np.generic]") -> str:
    return "f" if dtype.kind == "V" else dtype.kind  # BF16 is not one of numpy's own


def _is_nested(data: Sequence[object], shape: Sequence[int]) -> bool:
    """True if nested as `shape`, or if the first element is not an array (see `_flat`)."""
    if not len(data) or not isinstance(data[0], simdjson.Array | list):
        return True
    if isinstance(data, simdjson.Array):
        text: bytes = data.mini  # type: ignore[assignment] # the stub says str
        return LongArray(text, 0, len(text), scan(text)).is_nested(shape)
    return _has_shape(data, shape)


def _badly_nested(shape: Sequence[int], where: str) -> BadRequest:
    return BadRequest(
        f"{where}: expected a flat array, or one that is nested as shape {list(shape)} says"
    )


def _has_shape(data: object, shape: Sequence[int]) -> bool:
    if not shape:
        return not isinstance(data, list)
    return (
        isinstance(data, list)
        and len(data) == shape[0]
        and all(_has_shape(item, shape[1:]) for item in data)
    )


def _buffer(data: "simdjson.Array", kind: str, where: str) -> Array:
    try:
        buffer = data.as_buffer(of_type=_BUFFER_KINDS[kind])
    except TypeError:
        expected, kinds = ("numbers", {int, float}) if kind == "f" else ("integers", {int})
        wrong = (f"[{n}]" for n, value in enumerate(_flat(data)) if type(value) not in kinds)
        raise BadRequest(f"{where}{next(wrong, '')}: expected {expected} only") from None
    except ValueError:
        raise BadRequest(f"{where}: an integer is out of range") from None
    return np.frombuffer(buffer, _WIDEST[kind])


def _slow(data: object, dtype: "np.dtype[np.generic]", where: str) -> Array:
    """Booleans, and documents with NaN in them, element by element."""
    flat = list(_flat(data))
    kinds: tuple[type, ...] = {"b": (bool,), "f": (int, float)}.get(_kind_of_dtype(dtype), (int,))
    for i, value in enumerate(flat):
        if not isinstance(value, kinds) or (isinstance(value, bool) and dtype.kind != "b"):
            raise BadRequest(
                f"{where}[{i}]: expected {' or '.join(k.__name__ for k in kinds)}, "
                f"found {kind_of(value)}"
            )
    try:
        return np.array(flat, _WIDEST[_kind_of_dtype(dtype)])
    except OverflowError:
        raise BadRequest(f"{where}: an integer is out of range") from None


def _in_range(values: Array, dtype: "np.dtype[np.generic]", datatype: str, where: str) -> Array:
    if values.dtype == dtype:
        return values
    is_float = _kind_of_dtype(dtype) == "f"
    if is_float:
        with np.errstate(over="ignore"):
            narrow = values.astype(dtype)
        fits = bool(np.isfinite(narrow).all()) or bool(
            np.array_equal(np.isfinite(narrow), np.isfinite(values))
        )
    else:
        limits = np.iinfo(dtype.str)
        fits = not values.size or bool(values.min() >= limits.min and values.max() <= limits.max)
        narrow = values.astype(dtype)
    if not fits:
        is_wrong = np.isfinite(values) & ~np.isfinite(narrow) if is_float else narrow != values
        raise BadRequest(f"{where}[{is_wrong.argmax()}]: a value is out of range for {datatype}")
    return narrow


def _texts(data: object, where: str) -> list[str]:
    texts: list[str] = []
    for i, value in enumerate(_flat(data)):
        if not isinstance(value, str):
            raise BadRequest(f"{where}[{i}]: expected a string, found {kind_of(value)}")
        texts.append(value)
    return texts


def _flat(value: object) -> Iterator[object]:
    """The elements of a nested array, whose depth is bounded, or of a flat one.

    Arrays among other elements, and other values in place of an array, are elements: the caller
    refuses them.
    """
    items = plain(value)
    if not isinstance(items, list):
        yield items
    elif items and isinstance(items[0], list):
        for item in items:
            yield from _flat(item)
    else:
        yield from items


def printable_name(value: object) -> str:
    """A name from a request, fit for a message; the kind of the value if it is not a string."""
    return printable(value) if isinstance(value, str) else kind_of(value)


def kind_of(value: object) -> str:
    names: list[tuple[type | tuple[type, ...], str]] = [
        (bool, "a boolean"),
        ((int, float), "a number"),
        (str, "a string"),
        ((list, simdjson.Array, LongArray), "an array"),
        ((dict, simdjson.Object), "an object"),
    ]
    return next((name for kind, name in names if isinstance(value, kind)), "null")
