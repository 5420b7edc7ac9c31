"""Turns TensorFlow Serving's predict bodies into infer bodies, and answers back.

Source: TensorFlow Serving's REST page. A body is by row (`instances`) or by column (`inputs`). With
one named input, items are its values; with several, objects by name; likewise for outputs.
`{"b64": ...}` is a binary value, and outputs whose names end in `_bytes` are written that way. Axes
follow the nesting, in and out: `["a", "b"]` is `[2]`, `[["a"], ["b"]]` is `[2, 1]`.
"""

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import simdjson

from headrace.edge.bodies import printable
from headrace.errors import AnswerTooLarge, BadRequest
from headrace.gateway.json.document import mapping_of
from headrace.gateway.json.elements import elements, kind_of, plain
from headrace.gateway.json.long_arrays import LongArray
from headrace.gateway.json.writing import json_array, rows_in_pieces
from headrace.gateway.wire.answer import MAX_JSON_ELEMENTS
from headrace.gateway.wire.base64_text import from_base64
from headrace.inference.request import Answer
from headrace.inference.tensor import Array, Tensor, pack_bytes, to_array
from headrace_models.spec import ModelSpec

__all__ = ["infer_document", "predictions"]

_BYTES_SUFFIX = "_bytes"


def infer_document(
    document: Mapping[str, object], spec: ModelSpec
) -> tuple[dict[str, object], bytes]:
    """The equal infer body, and its binary part. Raises BadRequest unless it is of one form."""
    rows = document.get("instances")
    columns = document.get("inputs")
    if (rows is None) == (columns is None):
        raise BadRequest(
            f"body: expected instances or inputs, found {'neither' if rows is None else 'both'}"
        )
    values = _by_row(rows, spec) if columns is None else _by_column(columns, spec)
    scalars = {i.name for i in spec.inputs if not i.whole_shape}
    inputs: list[dict[str, object]] = []
    tail: list[bytes] = []
    for name, value in values:
        where = "instances" if columns is None else "inputs"
        is_scalar = columns is not None and name in scalars
        item, raw = _entry(_datatype(spec, name), name, [value] if is_scalar else value, where)
        if is_scalar:
            item["shape"] = []
        inputs.append(item)
        tail.append(raw)
    return {"inputs": inputs}, b"".join(tail)


def _datatype(spec: ModelSpec, name: str) -> str:
    known = {i.name: i.datatype for i in spec.inputs}
    return known.get(name, "BYTES")  # the raw input, or a name that Codec will refuse


def _single(spec: ModelSpec, values: object) -> str:
    """The input for values without a name: the raw one for texts and bytes, else the only one."""
    first = _first_of(values)
    if spec.raw and (isinstance(first, str) or _is_base64(first)):
        return spec.raw.input
    if len(spec.required_inputs) != 1:
        raise BadRequest(f"inputs: expected values by name, for {list(spec.required_inputs)}")
    return spec.required_inputs[0]


def _first_of(values: object) -> object:
    """The first element of an array, however deep it is nested; any other value itself."""
    while _is_array(values):
        values = values[0] if len(values) else None
    return values


def _by_row(rows: object, spec: ModelSpec) -> list[tuple[str, object]]:
    if isinstance(rows, LongArray):
        return [(_single(spec, rows), rows)]
    if not _is_array(rows) or not len(rows):
        raise BadRequest(f"instances: expected a non-empty array, found {kind_of(rows)}")
    first = rows[0]
    if not _is_object(first) or _is_base64(first):
        return [(_single(spec, rows), rows)]
    columns: dict[str, list[object]] = {name: [] for name in _given(first, "instances[0]")}
    for n, row in enumerate(rows):
        given = _given(row, f"instances[{n}]") if _is_object(row) else {}
        if given.keys() != columns.keys():
            raise BadRequest(
                f"instances[{n}]: expected an object with the {len(columns)} names of the first row"
            )
        for name, value in given.items():
            columns[name].append(plain(value))
    return list(columns.items())


def _given(item: Mapping[str, object], where: str) -> dict[str, object]:
    """An object's values by name, without nulls."""
    return {name: value for name, value in mapping_of(item, where).items() if value is not None}


def _by_column(columns: object, spec: ModelSpec) -> list[tuple[str, object]]:
    if _is_object(columns) and not _is_base64(columns):
        return list(_given(columns, "inputs").items())
    return [(_single(spec, columns), columns)]


def _entry(datatype: str, name: str, value: object, where: str) -> tuple[dict[str, object], bytes]:
    """An entry of an infer body's `inputs`, and its bytes if they belong to the binary part."""
    entry: dict[str, object] = {"name": name, "datatype": datatype}
    if isinstance(value, LongArray):
        return entry | {"shape": list(value.shape), "data": value}, b""
    if not _is_array(value):
        raise BadRequest(
            f"{where}: expected an array for {printable(name)}, found {kind_of(value)}"
        )
    if datatype != "BYTES" and not _has_long_array(value):
        return entry | {"shape": _shape_of(value), "data": value}, b""
    if datatype != "BYTES":
        shape, raw = _stacked(datatype, value, where)
    else:
        shape = _shape_of(value)
        raw = pack_bytes(list(_texts(value, shape, where)))
    return entry | {"shape": shape, "parameters": {"binary_data_size": len(raw)}}, raw


def _has_long_array(rows: Sequence[object]) -> bool:
    return isinstance(rows, list) and any(isinstance(row, LongArray) for row in rows)


def _stacked(datatype: str, rows: Sequence[object], where: str) -> tuple[list[int], bytes]:
    """The shape and the bytes of rows of which some are long arrays."""
    shape = _shape_of(rows[0])
    raw: list[bytes] = []
    for n, row in enumerate(rows):
        if (found := _shape_of(row)) != shape:
            raise BadRequest(
                f"{where}[{n}]: expected the shape {shape} of the first row, found {found}"
            )
        values = elements(row, datatype, shape, f"{where}[{n}]")
        raw.append(values if isinstance(values, bytes) else values.tobytes())
    return [len(rows), *shape], b"".join(raw)


def _texts(value: object, shape: Sequence[int], where: str) -> Iterator[bytes]:
    """All texts and binary values of an array nested as `shape`. Raises BadRequest."""
    if not shape:
        yield _bytes_of(value, where)
        return
    if not _is_array(value) or len(value) != shape[0]:
        found = len(value) if _is_array(value) else kind_of(value)
        raise BadRequest(
            f"{where}: expected an array of {shape[0]} elements, like the first one, found {found}"
        )
    for n, item in enumerate(value):
        yield from _texts(item, shape[1:], f"{where}[{n}]")


def _bytes_of(item: object, where: str) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if _is_base64(item):
        text = item["b64"]
        if isinstance(text, str):
            return from_base64(text, f"{where}.b64")
    raise BadRequest(f'{where}: expected a text or {{"b64": text}}, found {kind_of(item)}')


def _shape_of(value: object) -> list[int]:
    """The lengths along the first elements; the others are checked when they are read."""
    if isinstance(value, LongArray):
        return list(value.shape)
    shape = []
    while _is_array(value):
        shape.append(len(value))
        value = value[0] if len(value) else None
    return shape


def _is_array(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, simdjson.Array | list)


def _is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, simdjson.Object | dict)


def _is_base64(value: object) -> TypeGuard[Mapping[str, object]]:
    return _is_object(value) and list(value) == ["b64"]


def predictions(answer: Answer, *, is_rows: bool) -> dict[str, object]:
    """The answer in the form of its request: a list of rows, or a table of outputs.

    Raises BadRequest for rows if the outputs of a model without rows have none, or unequal numbers.
    """
    firsts = {tensor.shape[:1] for tensor in answer.outputs}
    if is_rows and (len(firsts) > 1 or () in firsts):
        raise BadRequest(
            "instances: the model's outputs are not rows; send its inputs by name, in inputs"
        )
    columns: dict[str, Any] = {tensor.name: _values(tensor) for tensor in answer.outputs}
    if is_rows and len(columns) > 1:
        width = sum(math.prod(tensor.shape[1:]) for tensor in answer.outputs)
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        return {"predictions": rows_in_pieces(rows, width)}
    table: dict[str, object] = {
        name: json_array(values) if isinstance(values, Array) else values
        for name, values in columns.items()
    }
    first = next(iter(table.values()))
    if is_rows:
        return {"predictions": first}
    return {"outputs": table if len(table) > 1 else first}


def _values(tensor: Tensor) -> object:
    """Rows as an array or a list, a scalar as itself. Raises AnswerTooLarge."""
    if math.prod(tensor.shape) > MAX_JSON_ELEMENTS:
        raise AnswerTooLarge(
            f'output "{tensor.name}" has more than {MAX_JSON_ELEMENTS} elements: use infer'
        )
    if tensor.datatype != "BYTES":
        array = to_array(tensor)
        array = array.astype("<f4") if tensor.datatype == "BF16" else array
        return array if array.ndim else array.item()
    elements = to_array(tensor)
    texts = [_text_of(item, tensor.name) for item in elements.ravel().tolist()]
    return np.array(texts, object).reshape(elements.shape).tolist()


def _text_of(item: bytes, name: str) -> object:
    if name.endswith(_BYTES_SUFFIX):
        return {"b64": base64.b64encode(item).decode()}
    return item.decode(errors="replace")
