"""What gateway and replica say to each other about a stream of audio, as tensors: a chunk, and what was heard in it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headrace.inference.tensor import Array, Buffer, Tensor, from_array, to_array

__all__ = ["NO_RATE", "Heard", "chunk_tensors", "heard_tensors", "read_chunk", "read_heard"]

# The rate of a chunk that names none.
NO_RATE = 0
_RATE = "sample_rate"


class Heard(NamedTuple):
    """What a stream of `rate_hz` came to: FP32 [frames] of those that the chunk completed, the first of this number.

    `segments` INT64 [n, 2] have start and end in samples, the end OPEN while somebody speaks; `dropped` came before.
    """

    rate_hz: int
    first_frame: int
    dropped: int
    probabilities: Array
    segments: Array


def chunk_tensors(name: str, pcm: Buffer, rate_hz: int) -> list[Tensor]:
    """`pcm` are bytes of 16-bit little-endian samples, which need not be whole."""
    return [
        Tensor(name, "UINT8", (1, len(pcm)), pcm),
        from_array(_RATE, np.array([rate_hz], np.int64)),
    ]


def read_chunk(inputs: Sequence[Tensor]) -> tuple[Array, int]:
    """The bytes UINT8 [n] of a chunk, and its rate or NO_RATE."""
    pcm, rate = inputs
    return to_array(pcm)[0], int(to_array(rate)[0])


def heard_tensors(heard: Heard) -> list[Tensor]:
    counts = np.array([heard.rate_hz, heard.first_frame, heard.dropped], np.int64)
    arrays = {"counts": counts, "probabilities": heard.probabilities, "segments": heard.segments}
    return [from_array(name, array) for name, array in arrays.items()]


def read_heard(outputs: Sequence[Tensor]) -> Heard:
    counts, probabilities, segments = map(to_array, outputs)
    rate_hz, first_frame, dropped = counts.tolist()
    return Heard(rate_hz, first_frame, dropped, probabilities, segments)
