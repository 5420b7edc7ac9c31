"""A chunk of audio as a step of a sequence: runs the frames that it completes, one by one.

All that is kept between chunks is in the sequence's state, beside the model's own: arrays of
numbers, so that a handover of the state moves the audio too.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from headrace.batching import Result
from headrace.errors import BadRequest, TooLarge
from headrace.inference.audio import NO_RATE, SpeechResult, read_chunk, result_tensors
from headrace.inference.request import Request, SequenceStep, Times
from headrace.inference.tensor import Array, Tensor
from headrace.replica.assembly import Part
from headrace.replica.counters import Execution
from headrace.replica.runner import PartResult
from headrace.replica.sequence_state import State, next_state
from headrace_models.postprocess.speech import Segmenter
from headrace_models.preprocess.audio import cut, padded, whole_samples
from headrace_models.spec import AudioRate, AudioSpec, ModelSpec

__all__ = ["MAX_CHUNK_S", "check_no_audio", "is_chunk", "run_chunk"]

MAX_CHUNK_S = 60

# INT16 [context + less than a hop]: the beginning of the next frame.
_SAMPLES = "stream.samples"
# UINT8 [0 or 1]: the first half of the next sample.
_HALF = "stream.half"
# INT64 [4]: rate, frames, silent_from, dropped.
_MARKS = "stream.marks"
# INT64 [n, 2]: starts and ends.
_SEGMENTS = "stream.segments"

Run = Callable[[Part], Awaitable[Result[PartResult]]]


class ChunkResult(NamedTuple):
    """The answer's tensors, the sequence's next state, and the execution that each frame ran in."""

    outputs: list[Tensor]
    state: State
    times: Times
    executions: list[Execution]


@dataclass(slots=True)
class _Carried:
    """All that is kept between chunks beside the model's state: samples not yet run, segments."""

    samples: Array
    half: Array
    segmenter: Segmenter

    def add(self, chunk: Array, *, ends: bool) -> tuple[list[Array], int]:
        """Take the frames that a chunk completes, the last one filled up if the stream `ends`.

        Returns them and the samples of the stream so far. Raises BadRequest.
        """
        rate = self.segmenter.rate
        octets = np.concatenate((self.half, chunk)) if len(self.half) else chunk
        new, self.half = whole_samples(octets)
        if ends and len(self.half):
            raise BadRequest(
                "body: expected whole 16-bit samples when the stream ends, found one byte left over"
            )
        samples = np.concatenate((self.samples, new))
        length = self.segmenter.frames * rate.hop + len(samples) - rate.context
        frames, self.samples = cut(padded(samples, rate) if ends else samples, rate)
        return frames, length

    def state(self, segments: Array) -> State:
        segmenter = self.segmenter
        marks = [
            segmenter.rate.rate_hz,
            segmenter.frames,
            segmenter.silent_from,
            segmenter.dropped,
        ]
        return {
            _SAMPLES: self.samples,
            _HALF: self.half,
            _MARKS: np.array(marks, np.int64),
            _SEGMENTS: segments,
        }


@dataclass(slots=True)
class _Frames:
    """The results of a chunk's frames: their probabilities, and the model's state after them.

    The outputs are not kept: they are views of their batches, and would keep all of them.
    """

    state: State
    probabilities: list[float] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    queue_s: float = 0.0
    compute_s: float = 0.0
    batch_rows: int = 0

    @property
    def times(self) -> Times:
        return Times(self.queue_s, 0.0, self.compute_s, self.batch_rows)


def is_chunk(spec: ModelSpec, request: Request) -> bool:
    return spec.audio is not None and request.inputs[0].name == spec.audio.input


def check_no_audio(state: State) -> State:
    """Return the state that an infer request steps from. Raises BadRequest for that of audio."""
    if _SAMPLES in state:
        raise BadRequest(
            "parameters.sequence_id: expected a sequence of infer requests, found a stream of audio"
        )
    return state


async def run_chunk(
    spec: ModelSpec, step: SequenceStep, inputs: Sequence[Tensor], state: State, run: Run
) -> ChunkResult:
    """Run a chunk's frames by `run`, from where `state` left off, which is not changed.

    Raises BadRequest, TooLarge, and what `run` raises.
    """
    audio = spec.audio
    assert audio is not None, "only a model that takes audio has streams"
    chunk, rate_hz = read_chunk(inputs)
    carried = _resume(audio, state, rate_hz, starts=step.starts)
    segmenter = carried.segmenter
    _check_length(chunk, segmenter.rate)
    frames, length = carried.add(chunk, ends=step.ends)
    first_frame = segmenter.frames
    ran = await _run_frames(spec, audio, frames, state, run)
    for probability in ran.probabilities:
        segmenter.add(probability)
    if step.ends:
        segmenter.end(length)
    result = SpeechResult(
        rate_hz=segmenter.rate.rate_hz,
        first_frame=first_frame,
        dropped=segmenter.dropped,
        probabilities=np.array(ran.probabilities, np.float32),
        segments=np.array(segmenter.segments, np.int64).reshape(-1, 2),
    )
    return ChunkResult(
        outputs=result_tensors(result),
        state={**ran.state, **carried.state(result.segments)},
        times=ran.times,
        executions=ran.executions,
    )


async def _run_frames(
    spec: ModelSpec, audio: AudioSpec, frames: Sequence[Array], state: State, run: Run
) -> _Frames:
    """Run each frame with the state that the one before it left; so their times add up."""
    ran = _Frames({pair.input: state[pair.input] for pair in spec.state})
    for frame in frames:
        settled = await run({audio.output: frame, **ran.state})
        outputs, execution = settled.value
        ran.state = {pair.input: outputs[pair.output] for pair in spec.state}
        ran.probabilities.append(outputs[audio.score].item())
        ran.executions.append(execution)
        ran.queue_s += settled.queue_s
        ran.compute_s += settled.compute_s
        ran.batch_rows = max(ran.batch_rows, settled.batch_rows)
    if frames:
        ran.state = next_state(spec, outputs)
    return ran


def _resume(audio: AudioSpec, state: State, rate_hz: int, *, starts: bool) -> _Carried:
    """Begin a stream, or read from its state where it left off. Raises BadRequest."""
    if starts:
        rate = _rate(audio, rate_hz or audio.rates[0].rate_hz)
        return _Carried(np.zeros(rate.context, np.int16), np.zeros(0, np.uint8), Segmenter(rate))
    if _SAMPLES not in state:
        raise BadRequest(
            "sequence_id: expected a stream of audio, found a sequence of infer requests"
        )
    began_hz, frames, silent_from, dropped = state[_MARKS].tolist()
    if rate_hz not in (NO_RATE, began_hz):
        raise BadRequest(
            f"sample_rate: expected {began_hz}, as when the stream began, found {rate_hz}"
        )
    segmenter = Segmenter(
        rate=_rate(audio, began_hz),
        frames=frames,
        silent_from=silent_from,
        dropped=dropped,
        segments=state[_SEGMENTS].tolist(),
    )
    return _Carried(state[_SAMPLES], state[_HALF], segmenter)


def _rate(audio: AudioSpec, rate_hz: int) -> AudioRate:
    for rate in audio.rates:
        if rate.rate_hz == rate_hz:
            return rate
    raise BadRequest(
        f"sample_rate: expected one of {[rate.rate_hz for rate in audio.rates]}, found {rate_hz}"
    )


def _check_length(chunk: Array, rate: AudioRate) -> None:
    most = 2 * MAX_CHUNK_S * rate.rate_hz
    if len(chunk) > most:
        raise TooLarge(
            f"body: expected at most {MAX_CHUNK_S} s of audio, {most} bytes at {rate.rate_hz} Hz, "
            f"found {len(chunk)} bytes"
        )
