"""The inputs and outputs of a model: their datatypes, shapes and bounds."""

from collections.abc import Mapping
from typing import Annotated, Literal

import ml_dtypes
import numpy as np
from pydantic import ConfigDict, Field, model_validator

from headrace_models.strict_toml import Table

__all__ = [
    "DTYPES",
    "FILE_NAME",
    "Datatype",
    "FileName",
    "InputSpec",
    "OutputSpec",
    "StrictTable",
    "TensorName",
    "TensorSpec",
]

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BF16",
    "BYTES",
]
Activation = Literal["none", "softmax"]

# Open Inference Protocol datatype -> little-endian numpy dtype. BYTES has no fixed width. BF16 is
# not one of numpy's own types: its kind is "V", as that of a structure.
DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}

TensorName = Annotated[str, Field(min_length=1, max_length=256)]
# A file in the version's own folder that is not hidden.
FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._ ()+-]{0,127}$"
FileName = Annotated[str, Field(pattern=FILE_NAME)]
Axis = Annotated[int, Field(ge=-1)]


class StrictTable(Table):
    """A table whose values have just the types of its fields: no number for a string."""

    model_config = ConfigDict(strict=True)


class TensorSpec(StrictTable):
    """An input or an output.

    `shape` leaves out the row axis; a tensor without rows has all axes.
    """

    name: TensorName
    datatype: Datatype
    shape: tuple[Axis, ...] = Field(strict=False)
    has_rows: bool = True

    @property
    def whole_shape(self) -> tuple[int, ...]:
        """All axes, that of the rows included; -1 is an axis of any length."""
        return (-1, *self.shape) if self.has_rows else self.shape


class InputSpec(TensorSpec):
    """An input; an axis of -1 in `shape` has a variable length, at most `max_length`.

    `pad` fills shorter rows up to the longest of a batch; without it only rows of equal shape share
    a batch. `lengths`, if given, are the only lengths that a variable axis may have. Integers must
    lie in `minimum`..`maximum`, both included: a lookup beyond a table would fail.
    """

    max_length: int | None = Field(default=None, ge=1)
    lengths: tuple[int, ...] = Field(default=(), strict=False)
    pad: float | None = None
    minimum: int | None = None
    maximum: int | None = None

    @model_validator(mode="after")
    def _check_range(self) -> "InputSpec":
        if self.minimum is None and self.maximum is None:
            return self
        if DTYPES.get(self.datatype, np.dtype("O")).kind not in "iu":
            raise ValueError(
                f"minimum, maximum: expected an input of integers, found {self.datatype}"
            )
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(
                f"minimum: expected at most maximum={self.maximum}, found {self.minimum}"
            )
        return self


class OutputSpec(TensorSpec):
    """An output. `labels` names a text file with one class a line.

    `activation` turns the output into the scores of `:classify`. If an axis of -1 is as long as the
    padded input, each answer is cut to the length of its own request's input.
    """

    labels: FileName | None = None
    activation: Activation = "none"

    @model_validator(mode="after")
    def _check_classes(self) -> "OutputSpec":
        if self.labels and self.datatype == "BYTES":
            raise ValueError("labels: expected an output of numbers, found BYTES")
        return self
