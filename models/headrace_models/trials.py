"""Trials of an unknown model: sizes for its variable axes, and values for its inputs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from headrace_models.spec import DTYPES

if TYPE_CHECKING:
    from onnxruntime import NodeArg

__all__ = [
    "DATATYPES",
    "FILLINGS",
    "LENGTHS",
    "Arrays",
    "Filling",
    "Sizes",
    "Trial",
    "axes_of",
    "filled",
    "trials",
]

DATATYPES: Mapping[str, str] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(bfloat16)": "BF16",
    "tensor(string)": "BYTES",
}
# Lengths of a text, an image, a window of audio, and those of exporters' examples. The first one
# that a model accepts is taken.
LENGTHS = (16, 64, 224, 400, 640, 1, 2, 5, 8, 10, 28, 32, 48, 50, 96, 100, 128, 256, 512, 16_000)
# With up to this many axes, each may have one element while the others are long.
_MOST_APART = 3
# For a number that stands alone, such as a sample rate.
_SETTINGS = (0, 1, 16_000)
_WORDS = np.array([b"0", b"1", b"cat", b"dog", b"win money now", b"meeting report"], object)

Filling = Literal["normal", "positive", "gentle", "zeros"]
# The ways to fill inputs, from the most telling one to the one that every model should accept.
FILLINGS: tuple[Filling, ...] = ("normal", "positive", "gentle", "zeros")
Arrays = dict[str, npt.NDArray[Any]]
# An axis without a fixed size -> its size. Axes of one name have one size.
Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Trial:
    """Sizes of variable axes, and the value of single integers."""

    sizes: Sizes
    setting: int


def axes_of(value: "NodeArg") -> list[int | str]:
    """A tensor's axes: a size, or a name. An axis without a name in the file gets its own."""
    return [
        axis if isinstance(axis, int) and axis > 0 else str(axis or f"{value.name} {n}")
        for n, axis in enumerate(value.shape)
    ]


def trials(inputs: Sequence["NodeArg"]) -> Iterator[Trial]:
    """Sizes to try, likely ones first; free first axes, which may be rows, have 2 or 1."""
    axes = [axes_of(value) for value in inputs]
    firsts = {a[0] for a in axes if a and isinstance(a[0], str)}
    others = sorted({axis for a in axes for axis in a if isinstance(axis, str)} - firsts)
    for setting in _SETTINGS if any(map(is_setting, inputs)) else (0,):
        for rows, lengths in product(
            (2, 1), [[length] * len(others) for length in LENGTHS] if others else [[]]
        ):
            yield Trial(
                dict.fromkeys(firsts, rows) | dict(zip(others, lengths, strict=True)), setting
            )
        if 1 < len(others) <= _MOST_APART:
            for length in LENGTHS:
                for apart in product((1, length), repeat=len(others)):
                    yield Trial(
                        dict.fromkeys(firsts, 1) | dict(zip(others, apart, strict=True)), setting
                    )


def filled(inputs: Sequence["NodeArg"], trial: Trial, filling: Filling, seed: int = 0) -> Arrays:
    """Values for all inputs, seeded."""
    random = np.random.default_rng(seed)
    return {value.name: _filled(value, trial, filling, random) for value in inputs}


def _filled(
    value: "NodeArg", trial: Trial, filling: Filling, random: np.random.Generator
) -> npt.NDArray[Any]:
    shape = [trial.sizes[axis] if isinstance(axis, str) else axis for axis in axes_of(value)]
    datatype = DATATYPES[value.type]
    if datatype == "BYTES":
        words = np.full(shape, b"", object) if filling == "zeros" else random.choice(_WORDS, shape)
        return np.asarray(words, object)
    dtype = DTYPES[datatype]
    if dtype.kind in "iu" and is_setting(value):
        return np.full(shape, trial.setting, dtype)
    if dtype.kind in "iub":
        return _whole_numbers(value.name, filling, shape, dtype, random)
    return np.asarray(_numbers(filling, shape, random), dtype)


def _whole_numbers(
    name: str, filling: Filling, shape: list[int], dtype: np.dtype[Any], random: np.random.Generator
) -> npt.NDArray[Any]:
    """Small integers, which lie in every vocabulary; those of bytes are a picture's.

    A mask is all ones except in "normal".
    """
    if filling == "zeros":
        return np.zeros(shape, dtype)
    if "mask" in name.lower() and filling != "normal":
        return np.ones(shape, dtype)
    most = 255 if dtype == np.uint8 else 1 if filling == "gentle" or dtype.kind == "b" else 9
    numbers: npt.NDArray[Any] = random.integers(0, most, shape, endpoint=True).astype(dtype)
    return numbers


def _numbers(filling: Filling, shape: list[int], random: np.random.Generator) -> npt.NDArray[Any]:
    if filling == "zeros":
        return np.zeros(shape)
    if filling == "normal":  # of several sizes, as real rows differ in them
        factors = random.choice((0.3, 1.0, 3.0), shape[:1]).reshape(
            shape[:1] + [1] * len(shape[1:])
        )
        return np.asarray(random.normal(size=shape) * factors)
    return np.asarray(random.uniform(0.1, 1.0, shape))


def is_setting(value: "NodeArg") -> bool:
    """It is one number for all rows, such as a sample rate: a scalar, or one element."""
    return value.type.startswith(("tensor(int", "tensor(uint")) and value.shape in ([], [1])
