"""Segments of speech, from each frame's probability of it. Times are in samples."""

from dataclasses import dataclass, field

from headrace_models.spec import AudioRate

__all__ = ["MAX_SEGMENTS", "OPEN", "Segmenter"]

# The end of a segment that has not ended yet.
OPEN = -1
MAX_SEGMENTS = 100

_SPEECH = 0.5
_SILENCE = 0.35
_MIN_SILENCE_MS = 100
_PAD_MS = 30


@dataclass(slots=True)
class Segmenter:
    """Finds the segments in which somebody speaks, frame by frame.

    The rule is that of silero-vad's VADIterator (6.2.3, `utils_vad.py`, MIT) with its defaults.
    Speech begins with a frame of 0.5 or more, and 30 ms are put before it. It ends when no such
    frame came within 100 ms of one below 0.35: with the last frame before that silence, and 30 ms.

    `silent_from` is where the silence was noticed that may end the open segment, 0 without one.
    `segments` are the last MAX_SEGMENTS, each a start and an end; only the last one's end may be
    OPEN. `dropped` came before them.
    """

    rate: AudioRate
    frames: int = 0
    silent_from: int = 0
    dropped: int = 0
    segments: list[list[int]] = field(default_factory=list)

    def add(self, probability: float) -> None:
        """Take the next frame's probability of speech."""
        self.frames += 1
        if probability >= _SPEECH:
            self.silent_from = 0
            if not self._is_open():
                self._begin()
        elif probability < _SILENCE and self._is_open():
            self._note_silence()

    def end(self, samples: int) -> None:
        """End the audio after so many samples, and with it an open segment."""
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

    def _note_silence(self) -> None:
        now = self.frames * self.rate.hop
        self.silent_from = self.silent_from or now
        if now - self.silent_from >= self._samples(_MIN_SILENCE_MS):
            self.segments[-1][1] = self.silent_from - self.rate.hop + self._samples(_PAD_MS)
            self.silent_from = 0

    def _samples(self, ms: int) -> int:
        return self.rate.rate_hz * ms // 1000
