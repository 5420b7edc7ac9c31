"""Framing and segments of streams, without a model."""

from collections.abc import Sequence

import numpy as np
import pytest

from headrace_models.postprocess.speech import MAX_SEGMENTS, OPEN, Segmenter
from headrace_models.preprocess.audio import cut, padded
from headrace_models.spec import AudioRate

SMALL = AudioRate(rate_hz=8000, context=2, hop=4)
SILERO = AudioRate(rate_hz=16000, context=64, hop=512)
HOP, PAD = 512, 480  # samples of a frame and of 30 ms
TONE = np.arange(1, 40, dtype=np.int16) * 800


def in_chunks(sound: "np.ndarray", size: int) -> list[list[float]]:
    """The frames of a sound that comes in chunks of a size."""
    kept, found = np.zeros(SMALL.context, np.int16), []
    for start in range(0, len(sound), size):
        frames, kept = cut(np.concatenate((kept, sound[start : start + size])), SMALL)
        found += [frame[0].tolist() for frame in frames]
    return found


def test_a_frame_is_the_end_of_the_one_before_it_and_what_is_new() -> None:
    frames, rest = cut(np.array([0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9], np.int16), SMALL)
    assert [(frame * 32768).tolist() for frame in frames] == [
        [[0, 0, 1, 2, 3, 4]],
        [[3, 4, 5, 6, 7, 8]],
    ]
    assert rest.tolist() == [7, 8, 9]


def test_full_scale_is_one() -> None:
    frames, _ = cut(np.array([0, 0, -32768, 32767, 0, 16384], np.int16), SMALL)
    assert frames[0].dtype == np.float32
    assert frames[0][0].tolist() == [0, 0, -1, 32767 / 32768, 0, 0.5]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 11])
def test_frames_are_the_same_whatever_the_size_of_the_chunks(size: int) -> None:
    assert in_chunks(TONE, size) == in_chunks(TONE, len(TONE))


def test_what_is_left_over_keeps_no_chunk_alive() -> None:
    _, rest = cut(np.zeros(2000, np.int16), SMALL)
    assert rest.base is None


@pytest.mark.parametrize(("new", "filled"), [(0, 0), (1, 4), (3, 4), (4, 4), (5, 8)])
def test_an_end_is_filled_up_to_whole_frames(new: int, filled: int) -> None:
    assert len(padded(np.ones(SMALL.context + new, np.int16), SMALL)) == SMALL.context + filled


def heard(*runs: tuple[float, int]) -> Segmenter:
    """A segmenter after runs of frames of the same probability."""
    segmenter = Segmenter(SILERO)
    for probability, count in runs:
        for _ in range(count):
            segmenter.add(probability)
    return segmenter


@pytest.mark.parametrize(
    ("runs", "segments"),
    [
        ([(0.49, 9)], []),
        ([(0.5, 1)], [[0, OPEN]]),
        ([(0.1, 3), (0.5, 1)], [[3 * HOP - PAD, OPEN]]),
        # 100 ms are 3.1 frames behind the first silent one.
        ([(0.9, 3), (0.1, 4)], [[0, OPEN]]),
        ([(0.9, 3), (0.1, 5)], [[0, 3 * HOP + PAD]]),
        ([(0.9, 3), (0.35, 99)], [[0, OPEN]]),
        ([(0.9, 3), (0.1, 4), (0.5, 1), (0.1, 4)], [[0, OPEN]]),
        # What is neither speech nor silence does not end the silence that began before it.
        ([(0.9, 3), (0.1, 1), (0.4, 9), (0.1, 1)], [[0, 3 * HOP + PAD]]),
        ([(0.9, 1), (0.1, 9), (0.9, 1)], [[0, HOP + PAD], [10 * HOP - PAD, OPEN]]),
    ],
)
def test_segments_begin_and_end_as_sileros_own_do(
    runs: Sequence[tuple[float, int]], segments: list[list[int]]
) -> None:
    assert heard(*runs).segments == segments


def test_the_end_of_a_stream_closes_an_open_segment_and_no_other() -> None:
    for runs, end in (((0.9, 3),), 1400), (((0.9, 3), (0.1, 9)), 3 * HOP + PAD):
        segmenter = heard(*runs)
        segmenter.end(1400)
        assert segmenter.segments == [[0, end]]


def test_only_the_last_segments_are_kept_and_those_before_are_counted() -> None:
    segmenter = heard(*[(0.9, 1), (0.1, 9)] * (MAX_SEGMENTS + 3))
    assert (len(segmenter.segments), segmenter.dropped) == (MAX_SEGMENTS, 3)
    assert segmenter.segments[0][0] == 3 * 10 * HOP - PAD
