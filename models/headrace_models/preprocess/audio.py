"""PCM of audio that comes in chunks -> the frames that a model takes. Pure numpy."""

import numpy as np
import numpy.typing as npt

from headrace_models.spec import AudioRate

__all__ = ["cut", "padded", "whole_samples"]

Octets = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.int16]
Frame = npt.NDArray[np.float32]

# Full scale is 1.0. A power of two, so that the product is exact.
_STEP = np.float32(1 / 32768)


def whole_samples(octets: Octets) -> tuple[Samples, Octets]:
    """16-bit little-endian PCM as samples, a view, and a copy of the odd byte that may be left."""
    end = len(octets) // 2 * 2
    return octets[:end].view("<i2"), octets[end:].copy()


def cut(samples: Samples, rate: AudioRate) -> tuple[list[Frame], Samples]:
    """The complete frames of `samples`, FP32 [1, context + hop] in -1..1 each, and the rest.

    `samples` begin with the context of the first frame, the rest with that of the next one:
    `rate.context` samples and fewer than `rate.hop` new ones. Frames are views of one array, the
    rest is a copy.
    """
    count = (len(samples) - rate.context) // rate.hop
    used = count * rate.hop
    width = rate.context + rate.hop
    floats = samples[: used + rate.context] * _STEP
    frames = [floats[start : start + width].reshape(1, width) for start in range(0, used, rate.hop)]
    return frames, samples[used:].copy()


def padded(samples: Samples, rate: AudioRate) -> Samples:
    """Fill `samples` up with zeros to complete frames, to run the last one of a stream."""
    return np.pad(samples, (0, (rate.context - len(samples)) % rate.hop))
