"""A stream of PCM -> the frames that a model takes, and where in it speech is. Pure numpy; times are in samples."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from headrace_models.spec import AudioRate

__all__ = [
    "MAX_SEGMENTS",
    "OPEN",
    "Octets",
    "Samples",
    "Segmenter",
    "cut",
    "padded",
    "whole_samples",
]

Octets = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.int16]
Frame = npt.NDArray[np.float32]

# The end of a segment in which somebody still speaks.
OPEN = -1
MAX_SEGMENTS = 100

_SPEECH = 0.5
_SILENCE = 0.35
_MIN_SILENCE_MS = 100
_PAD_MS = 30
# Full scale is 1.0. A power of two, so that the product is exact.
_STEP = np.float32(1 / 32768)


def whole_samples(octets: Octets) -> tuple[Samples, Octets]:
    """16-bit little-endian PCM as samples, a view, and a copy of the byte that is half of the next one, if there is."""
    whole = len(octets) // 2 * 2
    return octets[:whole].view("<i2"), octets[whole:].copy()


def cut(samples: Samples, rate: AudioRate) -> tuple[list[Frame], Samples]:
    """The whole frames of `samples`, FP32 [1, context + hop] in -1..1 each, and what the next ones begin with.

    `samples` begin with the context of the first frame, so do those that are given back: `rate.context` samples and
    less than `rate.hop` new ones. Frames are views of one array, the rest is a copy.
    """
    count = (len(samples) - rate.context) // rate.hop
    used, width = count * rate.hop, rate.context + rate.hop
    floats = samples[: used + rate.context] * _STEP
    return [
        floats[start : start + width].reshape(1, width) for start in range(0, used, rate.hop)
    ], samples[used:].copy()


def padded(samples: Samples, rate: AudioRate) -> Samples:
    """Filled up with zeros to whole frames: what the last, incomplete frame of a stream is run with."""
    return np.pad(samples, (0, (rate.context - len(samples)) % rate.hop))


@dataclass(slots=True)
class Segmenter:
    """Where somebody speaks, frame by frame.

    The rule is that of silero-vad's VADIterator (6.2.3, `utils_vad.py`, MIT) with its defaults: speech begins with a
    frame of 0.5 or more, and ends when no such frame came within 100 ms of one below 0.35; 30 ms are put before it.
    Its end is that of the last frame before that silence, and 30 ms.

    `silent_from` is where the silence was noticed that may end the open segment, 0 if there is none. `segments` are
    the last MAX_SEGMENTS, each its start and its end, the one that is OPEN at the end; `dropped` came before them.
    """

    rate: AudioRate
    frames: int = 0
    silent_from: int = 0
    dropped: int = 0
    segments: list[list[int]] = field(default_factory=list)

    def hear(self, probability: float) -> None:
        """Take the next frame's probability of speech."""
        self.frames += 1
        if probability >= _SPEECH:
            self.silent_from = 0
            if not self._is_open():
                self._begin()
        elif probability < _SILENCE and self._is_open():
            self._be_silent()

    def end(self, samples: int) -> None:
        """The stream ends after so many samples: so does an open segment."""
        if self._is_open():
            self.segments[-1][1] = samples

    def _is_open(self) -> bool:
        return bool(self.segments) and self.segments[-1][1] == OPEN

    def _begin(self) -> None:
        start = (self.frames - 1) * self.rate.hop - self._samples(_PAD_MS)
        self.segments.append([max(0, start), OPEN])
        if len(self.segments) > MAX_SEGMENTS:
            del self.segments[0]
            self.dropped += 1

    def _be_silent(self) -> None:
        now = self.frames * self.rate.hop
        self.silent_from = self.silent_from or now
        if now - self.silent_from >= self._samples(_MIN_SILENCE_MS):
            self.segments[-1][1] = self.silent_from - self.rate.hop + self._samples(_PAD_MS)
            self.silent_from = 0

    def _samples(self, ms: int) -> int:
        return self.rate.rate_hz * ms // 1000
