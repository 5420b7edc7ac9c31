"""Tensors as they travel, with raw little-endian row-major bytes, and as numpy arrays."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from headrace.errors import BadRequest
from headrace_models.spec import DTYPES

__all__ = [
    "Array",
    "Buffer",
    "Tensor",
    "from_array",
    "pack_bytes",
    "to_array",
]

Array = np.ndarray
Buffer = bytes | bytearray | memoryview

_DATATYPES = {dtype.str: name for name, dtype in DTYPES.items()}


class Tensor(msgspec.Struct, frozen=True):
    """A tensor, laid out as in OIP's binary extension: binary requests pass without decoding.

    `data` holds the elements of `shape`; each BYTES element follows its length, a 4-byte
    little-endian integer.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Buffer

    @property
    def rows(self) -> int:
        return self.shape[0] if self.shape else 1


def to_array(tensor: Tensor) -> Array:
    """A read-only numpy view of the tensor's bytes; BYTES become an object array of `bytes`.

    Raises BadRequest if the bytes do not fit the shape and the datatype.
    """
    count = math.prod(tensor.shape)
    if tensor.datatype == "BYTES":
        return np.array(_unpack_bytes(tensor, count), dtype=object).reshape(tensor.shape)
    dtype = DTYPES[tensor.datatype]
    expected = count * dtype.itemsize
    if len(tensor.data) != expected:
        raise BadRequest(
            f'input "{tensor.name}": expected {expected} bytes for its shape, '
            f"found {len(tensor.data)}"
        )
    return np.frombuffer(tensor.data, dtype).reshape(tensor.shape)


def from_array(name: str, array: Array) -> Tensor:
    """The tensor of a numpy array; object and string arrays become BYTES."""
    if array.dtype.kind in "OSU":
        packed = pack_bytes(array.ravel().tolist())
        return Tensor(name=name, datatype="BYTES", shape=array.shape, data=packed)
    little = np.ascontiguousarray(array)
    if (datatype := _DATATYPES.get(little.dtype.str)) is None:
        little = little.astype(little.dtype.newbyteorder("<"))
        datatype = _DATATYPES[little.dtype.str]
    data = little.reshape(-1).view("u1").data
    return Tensor(name=name, datatype=datatype, shape=array.shape, data=data)


def pack_bytes(elements: Sequence[bytes | str]) -> bytes:
    """Pack the elements of a BYTES tensor into its binary form; text becomes UTF-8."""
    raw = [e.encode() if isinstance(e, str) else bytes(e) for e in elements]
    return b"".join(part for e in raw for part in (len(e).to_bytes(4, "little"), e))


def _unpack_bytes(tensor: Tensor, count: int) -> list[bytes]:
    data = memoryview(tensor.data)
    offset = 0
    elements: list[bytes] = []
    while offset + 4 <= len(data) and len(elements) < count:
        end = offset + 4 + int.from_bytes(data[offset : offset + 4], "little")
        if end > len(data):
            break
        elements.append(bytes(data[offset + 4 : end]))
        offset = end
    if len(elements) != count or offset != len(data):
        raise BadRequest(
            f'input "{tensor.name}": expected {count} elements, each after its 4-byte length, '
            f"found {len(elements)} and {len(data) - offset} bytes left over"
        )
    return elements
