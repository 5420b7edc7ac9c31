"""Reads one input tensor of an infer body, and checks its shape, datatype and data by the spec."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import simdjson

from headrace.errors import BadRequest, NonFiniteInput
from headrace.gateway.json.document import non_negative, parameters_of
from headrace.gateway.json.elements import elements, plain, printable_name
from headrace.gateway.wire.parameters import check_no_shared_memory
from headrace.inference.tensor import Buffer, Tensor, pack_bytes, to_array
from headrace_models.spec import DTYPES, InputSpec

__all__ = ["TensorReader"]

_MAX_ELEMENTS = 1 << 31


class TensorReader:
    """Reads the entries of `inputs` for one input of a spec."""

    def __init__(self, spec: InputSpec, *, is_finite: bool, may_be_empty: bool = True) -> None:
        self._spec = spec
        self._may_be_empty = may_be_empty
        self._first = 1 if spec.has_rows else 0  # the first axis that the spec's shape has
        self._rank = self._first + len(spec.shape)
        self._fixed = list(spec.shape) if -1 not in spec.shape else None
        self._width = DTYPES[spec.datatype].itemsize if spec.datatype != "BYTES" else 0
        self._last: list[int] = []  # the last sound shape, which mostly is the next one, too
        self._has_range = spec.minimum is not None or spec.maximum is not None
        self._checks_finite = is_finite and spec.datatype in ("FP16", "FP32", "FP64", "BF16")

    def read(
        self, item: Mapping[str, object], where: str, tail: memoryview, offset: int
    ) -> tuple[Tensor, int]:
        """The tensor, and the offset of the next one in the binary `tail`. Raises BadRequest."""
        spec = self._spec
        if item.get("datatype") != spec.datatype:
            found = printable_name(item.get("datatype"))
            raise BadRequest(f"{where}.datatype: expected {spec.datatype}, found {found}")
        shape = self._shape(item.get("shape"), f"{where}.shape")
        parameters = parameters_of(item, f"{where}.parameters")
        check_no_shared_memory(parameters, f"{where}.parameters")
        size = parameters.get("binary_data_size")
        data = item.get("data")
        if (size is None) == (data is None):
            found = "neither" if data is None else "both"
            raise BadRequest(
                f"{where}: expected data or parameters.binary_data_size, found {found}"
            )
        if size is None:
            values = self._from_json(data, shape, where)
            return Tensor(spec.name, spec.datatype, shape[: self._rank], values), offset
        end = offset + non_negative(size, f"{where}.parameters.binary_data_size")
        if end > len(tail):
            raise BadRequest(
                f"{where}.parameters.binary_data_size: "
                f"{end - len(tail)} bytes are missing from the body"
            )
        return self.from_binary(tail[offset:end], shape, where), end

    @property
    def is_text(self) -> bool:
        return self._spec.datatype == "BYTES"

    def check(self, tensor: Tensor, where: str) -> None:
        """Raise BadRequest naming `where` for a tensor that an infer body could not have."""
        self.from_binary(memoryview(tensor.data), self._shape(list(tensor.shape), where), where)

    def from_raw(self, body: bytes) -> Tensor:
        """One row of bytes without a header, which tells the length of a variable axis."""
        spec = self._spec
        if self.is_text:
            return self._raw_text(body)
        fixed = math.prod(axis for axis in spec.shape if axis != -1)
        length, rest = divmod(len(body), max(1, fixed * self._width))
        if rest or (self._fixed and length != 1) or spec.shape.count(-1) > 1:
            raise BadRequest(
                f"body: expected the bytes of {'one row of ' if spec.has_rows else ''}"
                f"{spec.datatype} {list(spec.shape)}, found {len(body)}"
            )
        own = [length if axis == -1 else axis for axis in spec.shape]
        shape = self._shape([1, *own] if spec.has_rows else own, "body")
        return self.from_binary(memoryview(body), shape, "body")

    def _raw_text(self, body: bytes) -> Tensor:
        """One row of one element, whatever its axes."""
        spec = self._spec
        own = [1 if axis == -1 else axis for axis in spec.shape]
        if math.prod(own) != 1:
            raise BadRequest(
                "Inference-Header-Content-Length: expected a JSON part, "
                f"as {'a row of ' if spec.has_rows else ''}the input has {math.prod(own)} elements"
            )
        shape = self._shape([1, *own] if spec.has_rows else own, "body")
        return Tensor(spec.name, spec.datatype, shape, pack_bytes([body]))

    def _from_json(self, data: object, shape: tuple[int, ...], where: str) -> Buffer:
        values = elements(data, self._spec.datatype, shape, f"{where}.data")
        if isinstance(values, bytes):
            to_array(Tensor(f"{where}.data", "BYTES", shape, values))
            return values
        if values.size != math.prod(shape):
            raise BadRequest(
                f"{where}.data: expected {math.prod(shape)} elements for shape {list(shape)}, "
                f"found {values.size}"
            )
        if self._has_range:
            _check_range(values, self._spec, where, shape)
        # NaN and Infinity are bare tokens, and documents with those are read as plain lists.
        if self._checks_finite and not isinstance(data, simdjson.Array):
            _check_finite(values, where, shape)
        return values.view("u1").data

    def from_binary(self, data: memoryview, shape: tuple[int, ...], where: str) -> Tensor:
        """The tensor of raw bytes whose `shape` has been checked. Raises BadRequest."""
        tensor = Tensor(self._spec.name, self._spec.datatype, shape[: self._rank], data)
        if not self._width:
            to_array(tensor)
            return tensor
        expected = math.prod(shape) * self._width
        if len(data) != expected:
            raise BadRequest(
                f"{where}.parameters.binary_data_size: "
                f"expected {expected} for shape {list(shape)}, found {len(data)}"
            )
        if self._has_range:
            _check_range(np.frombuffer(data, DTYPES[tensor.datatype]), self._spec, where, shape)
        elif self._checks_finite:
            _check_finite(np.frombuffer(data, DTYPES[tensor.datatype]), where, shape)
        elif tensor.datatype == "BOOL" and np.frombuffer(data, "u1").max(initial=0) > 1:
            raise BadRequest(f"{where}: expected bytes 0 or 1 for BOOL")
        return tensor

    def _shape(self, value: object, where: str) -> tuple[int, ...]:
        """The complete shape, rows first, checked with exact integers before anything is allocated.

        `[rows, 1]` passes for `[rows]`: Triton's clients cannot send an input of fewer axes.
        """
        shape = plain(value)
        # True equals 1, so the types are checked as well.
        if shape and shape == self._last and all(type(axis) is int for axis in shape):
            return tuple(shape)
        if not isinstance(shape, list) or not all(
            type(axis) is int and axis >= 0 for axis in shape
        ):
            raise BadRequest(f"{where}: expected an array of integers of 0 or more")
        first = self._first
        own = self._spec.shape
        is_column = first == 1 and not own and shape[1:] == [1]
        if len(shape) != self._rank and not is_column:
            expected = ", ".join(
                [*["n"] * first, *("*" if axis == -1 else str(axis) for axis in own)]
            )
            raise BadRequest(
                f"{where}: expected {self._rank} axes [{expected}], found {len(shape)}"
            )
        if shape[first:] != self._fixed and not is_column:
            for axis, (found, wanted) in enumerate(
                zip(shape[first:], own, strict=True), start=first
            ):
                self._check_axis(found, wanted, f"{where}: axis {axis}")
        if first and not shape[0] and not self._may_be_empty:
            raise BadRequest(f"{where}: axis 0: expected 1 or more, found 0")
        if math.prod(shape) > _MAX_ELEMENTS:
            raise BadRequest(f"{where}: expected at most {_MAX_ELEMENTS} elements")
        self._last = shape
        return tuple(shape)

    def _check_axis(self, found: int, wanted: int, where: str) -> None:
        spec = self._spec
        if wanted >= 0 and found != wanted:
            raise BadRequest(f"{where}: expected {wanted}, found {found}")
        if wanted == -1 and spec.lengths and found not in spec.lengths:
            raise BadRequest(f"{where}: expected one of {list(spec.lengths)}, found {found}")
        if wanted == -1 and not 1 <= found <= (spec.max_length or found):
            raise BadRequest(
                f"{where}: expected 1 to {spec.max_length or 'any length'}, found {found}"
            )


def _check_finite(values: "np.ndarray", where: str, shape: Sequence[int]) -> None:
    is_finite = np.isfinite(values)
    if not is_finite.all():
        raise NonFiniteInput(
            f"{where}: expected finite numbers, found NaN or infinity"
            f"{_in_row(int(is_finite.argmin()), shape)}"
        )


def _in_row(index: int, shape: Sequence[int]) -> str:
    """Name the row of the element with this flat index, if there are several."""
    return f" in row {index // math.prod(shape[1:])}" if shape and shape[0] > 1 else ""


def _check_range(values: "np.ndarray", spec: InputSpec, where: str, shape: Sequence[int]) -> None:
    """Refuse integers beyond the table that they index: native code would read past its end."""
    if not values.size:
        return
    least = int(values.min())
    most = int(values.max())
    is_low = spec.minimum is not None and least < spec.minimum
    if is_low or (spec.maximum is not None and most > spec.maximum):
        low, high = ("any" if limit is None else limit for limit in (spec.minimum, spec.maximum))
        index = int(values.argmin() if is_low else values.argmax())
        raise BadRequest(
            f"{where}: expected values from {low} to {high}, "
            f"found {values[index]}{_in_row(index, shape)}"
        )
