"""A chunk of audio and its result as tensors, as gateway and replica exchange them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headrace.inference.tensor import Array, Buffer, Tensor, from_array, to_array

__all__ = [
    "NO_RATE",
    "SpeechResult",
    "chunk_tensors",
    "read_chunk",
    "read_result",
    "result_tensors",
]

# The rate of a chunk that names none.
NO_RATE = 0
_RATE = "sample_rate"


class SpeechResult(NamedTuple):
    """The speech in a chunk of audio of `rate_hz`.

    `probabilities` FP32 [frames] are those of the frames that the chunk completed; `first_frame` is
    the number of the first. `segments` INT64 [n, 2] have start and end in samples, the end OPEN
    while somebody speaks; `dropped` of them came before.
    """

    rate_hz: int
    first_frame: int
    dropped: int
    probabilities: Array
    segments: Array


def chunk_tensors(name: str, pcm: Buffer, rate_hz: int) -> list[Tensor]:
    """Write a chunk; `pcm` is 16-bit little-endian and may end within a sample."""
    return [
        Tensor(name, "UINT8", (1, len(pcm)), pcm),
        from_array(_RATE, np.array([rate_hz], np.int64)),
    ]


def read_chunk(inputs: Sequence[Tensor]) -> tuple[Array, int]:
    """Read the bytes UINT8 [n] of a chunk, and its rate or NO_RATE."""
    pcm, rate = inputs
    return to_array(pcm)[0], int(to_array(rate)[0])


def result_tensors(result: SpeechResult) -> list[Tensor]:
    counts = np.array([result.rate_hz, result.first_frame, result.dropped], np.int64)
    return [
        from_array("counts", counts),
        from_array("probabilities", result.probabilities),
        from_array("segments", result.segments),
    ]


def read_result(outputs: Sequence[Tensor]) -> SpeechResult:
    counts, probabilities, segments = map(to_array, outputs)
    rate_hz, first_frame, dropped = counts.tolist()
    return SpeechResult(rate_hz, first_frame, dropped, probabilities, segments)
