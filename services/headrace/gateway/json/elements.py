"""The elements of a JSON array, straight into numpy without a Python object per number."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import simdjson

from headrace.edge.bodies import printable
from headrace.errors import BadRequest
from headrace.gateway.json.long_arrays import Lifted
from headrace.gateway.json.scan import scan
from headrace.inference.tensor import Array, pack_bytes
from headrace_models.spec import DTYPES

__all__ = ["elements", "kind_of", "named", "plain"]

# numpy kind -> the widest type of that kind, which JSON numbers are read into before they are narrowed.
_WIDEST = {"b": "?", "f": "<f8", "i": "<i8", "u": "<u8"}
_BUFFER_KINDS: dict[str, Literal["d", "i", "u"]] = {"f": "d", "i": "i", "u": "u"}


def plain(value: object) -> object:
    """A value as Python lists and dictionaries."""
    if isinstance(value, simdjson.Array):
        return value.as_list()
    return value.as_dict() if isinstance(value, simdjson.Object) else value


def elements(data: object, datatype: str, shape: Sequence[int], place: str) -> Array | bytes:
    """All elements of an array that is flat or nested as `shape` says, in the datatype's own dtype; BYTES come packed.

    Raises BadRequest, naming `place`, for other nesting, for what is no number, or is out of the datatype's range.
    """
    if not isinstance(data, simdjson.Array | list | Lifted):
        raise BadRequest(f"{place}: expected an array, found {kind_of(data)}")
    if not (data.is_nested(shape) if isinstance(data, Lifted) else _is_nested(data, shape)):
        raise _badly_nested(shape, place)
    dtype = DTYPES[datatype] if datatype != "BYTES" else None
    if isinstance(data, Lifted) and (dtype is None or _kind_of_dtype(dtype) not in _BUFFER_KINDS):
        raise BadRequest(
            f"{place}: expected fewer elements of {datatype} in JSON; send them as binary"
        )
    if dtype is None:
        return pack_bytes(_texts(data, place))
    if isinstance(data, Lifted):
        return _in_range(
            data.numbers(_BUFFER_KINDS[_kind_of_dtype(dtype)], place), dtype, datatype, place
        )
    if isinstance(data, simdjson.Array) and _kind_of_dtype(dtype) in _BUFFER_KINDS:
        values = _buffer(data, _kind_of_dtype(dtype), place)
        if len(values) != len(data) and not isinstance(data[0], simdjson.Array):
            raise _badly_nested(shape, place)  # the buffer has what later, nested elements hold
        return _in_range(values, dtype, datatype, place)
    return _in_range(_slow(data, dtype, place), dtype, datatype, place)


def _kind_of_dtype(dtype: "np.dtype[np.generic]") -> str:
    return "f" if dtype.kind == "V" else dtype.kind  # BF16 is none of numpy's own


def _is_nested(data: Sequence[object], shape: Sequence[int]) -> bool:
    """True if the nesting is that of `shape`, or if the first element is no array; later ones are found as elements."""
    if not len(data) or not isinstance(data[0], simdjson.Array | list):
        return True
    if isinstance(data, simdjson.Array):
        text: bytes = data.mini  # type: ignore[assignment] # the stub says str
        return Lifted(text, 0, len(text), scan(text)).is_nested(shape)
    return _has_shape(data, shape)


def _badly_nested(shape: Sequence[int], place: str) -> BadRequest:
    return BadRequest(
        f"{place}: expected a flat array, or one that is nested as shape {list(shape)} says"
    )


def _has_shape(data: object, shape: Sequence[int]) -> bool:
    if not shape:
        return not isinstance(data, list)
    return (
        isinstance(data, list)
        and len(data) == shape[0]
        and all(_has_shape(item, shape[1:]) for item in data)
    )


def _buffer(data: "simdjson.Array", kind: str, place: str) -> Array:
    try:
        buffer = data.as_buffer(of_type=_BUFFER_KINDS[kind])
    except TypeError:
        expected, kinds = ("numbers", {int, float}) if kind == "f" else ("integers", {int})
        wrong = (f"[{n}]" for n, value in enumerate(_flat(data)) if type(value) not in kinds)
        raise BadRequest(f"{place}{next(wrong, '')}: expected {expected} only") from None
    except ValueError:
        raise BadRequest(f"{place}: an integer is out of range") from None
    return np.frombuffer(buffer, _WIDEST[kind])


def _slow(data: object, dtype: "np.dtype[np.generic]", place: str) -> Array:
    """Booleans, and documents with NaN in them, element by element."""
    flat = list(_flat(data))
    kinds: tuple[type, ...] = {"b": (bool,), "f": (int, float)}.get(_kind_of_dtype(dtype), (int,))
    for i, value in enumerate(flat):
        if not isinstance(value, kinds) or (isinstance(value, bool) and dtype.kind != "b"):
            raise BadRequest(
                f"{place}[{i}]: expected {' or '.join(k.__name__ for k in kinds)}, found {kind_of(value)}"
            )
    try:
        return np.array(flat, _WIDEST[_kind_of_dtype(dtype)])
    except OverflowError:
        raise BadRequest(f"{place}: an integer is out of range") from None


def _in_range(values: Array, dtype: "np.dtype[np.generic]", datatype: str, place: str) -> Array:
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
        raise BadRequest(f"{place}[{is_wrong.argmax()}]: a value is out of range for {datatype}")
    return narrow


def _texts(data: object, place: str) -> list[str]:
    texts: list[str] = []
    for i, value in enumerate(_flat(data)):
        if not isinstance(value, str):
            raise BadRequest(f"{place}[{i}]: expected a string, found {kind_of(value)}")
        texts.append(value)
    return texts


def _flat(value: object) -> Iterator[object]:
    """The elements of a nested array, whose depth has a limit, or of a flat one; arrays among those are elements.

    What stands in the place of an array is an element, too, which is for the caller to refuse.
    """
    items = plain(value)
    if not isinstance(items, list):
        yield items
    elif items and isinstance(items[0], list):
        for item in items:
            yield from _flat(item)
    else:
        yield from items


def named(value: object) -> str:
    """A name that a caller gave, fit for a message; else what it gave instead."""
    return printable(value) if isinstance(value, str) else kind_of(value)


def kind_of(value: object) -> str:
    names: list[tuple[type | tuple[type, ...], str]] = [
        (bool, "a boolean"),
        ((int, float), "a number"),
        (str, "a string"),
        ((list, simdjson.Array, Lifted), "an array"),
        ((dict, simdjson.Object), "an object"),
    ]
    return next((name for kind, name in names if isinstance(value, kind)), "null")
