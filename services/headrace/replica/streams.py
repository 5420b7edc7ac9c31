"""A step of a stream of audio: the frames that a chunk completes, run one after the other, and what is kept after it.

All that is kept is in the sequence's state, beside the model's own: plain arrays of numbers, so that whoever moves a
state moves its stream too.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import numpy as np

from headrace.batching import Settled
from headrace.errors import BadRequest, TooLarge
from headrace.inference.audio import NO_RATE, Heard, heard_tensors, read_chunk
from headrace.inference.request import Request, SequenceStep, Times
from headrace.inference.tensor import Array, Tensor
from headrace.replica.assembly import Part
from headrace.replica.counters import Execution
from headrace.replica.running import Ran
from headrace.replica.sequence_state import State, next_state
from headrace_models.postprocess.speech import Segmenter
from headrace_models.preprocess.audio import cut, padded, whole_samples
from headrace_models.spec import AudioRate, AudioSpec, ModelSpec

__all__ = ["MAX_CHUNK_S", "Advance", "advance", "is_chunk", "not_a_stream"]

MAX_CHUNK_S = 60

# INT16 [context + less than a hop]: what the next frame begins with; UINT8 [0 or 1]: the first half of the next sample;
# then [rate, frames, silent_from, dropped] and the segments [n, 2].
_SAMPLES, _HALF, _MARKS, _SEGMENTS = (
    "stream.samples",
    "stream.half",
    "stream.marks",
    "stream.segments",
)

Run = Callable[[Part], Awaitable[Settled[Ran]]]


class Advance(NamedTuple):
    """What a chunk brought its stream: the answer's tensors, the state, and each execution that a frame ran in."""

    outputs: list[Tensor]
    state: State
    times: Times
    executions: list[Execution]


class _Course(NamedTuple):
    """What running a chunk's frames came to: the model's own state, and of each frame its probability.

    The frames' outputs are not among it: they are views, and would keep all of their batches.
    """

    state: State
    probabilities: list[float]
    times: Times
    executions: list[Execution]


def is_chunk(spec: ModelSpec, request: Request) -> bool:
    return spec.audio is not None and request.inputs[0].name == spec.audio.input


def not_a_stream(state: State) -> State:
    """The state that an infer request may step from: any but a stream's, which would lose its place in the audio."""
    if _SAMPLES in state:
        raise BadRequest(
            "parameters.sequence_id: expected a sequence of infer requests, found a stream of audio"
        )
    return state


async def advance(
    spec: ModelSpec, step: SequenceStep, inputs: Sequence[Tensor], state: State, run: Run
) -> Advance:
    """Take a chunk up where `state` left off; `run` runs one frame. Raises BadRequest, and what `run` raises.

    Nothing of `state` is changed: if this fails, the stream is where it was.
    """
    audio = spec.audio
    assert audio is not None, "only a model that takes audio has streams"
    chunk, rate_hz = read_chunk(inputs)
    kept, half, heard = _resume(audio, state, rate_hz, starts=step.starts)
    _check_length(chunk, heard.rate)
    new, half = whole_samples(np.concatenate((half, chunk)) if len(half) else chunk)
    if step.ends and len(half):
        raise BadRequest(
            "body: expected whole 16-bit samples when the stream ends, found one byte left over"
        )
    first, samples = heard.frames, np.concatenate((kept, new))
    frames, rest = cut(padded(samples, heard.rate) if step.ends else samples, heard.rate)
    ran = await _run_frames(spec, audio, frames, state, run)
    for probability in ran.probabilities:
        heard.add(probability)
    if step.ends:
        heard.end(first * heard.rate.hop + len(samples) - heard.rate.context)
    segments = np.array(heard.segments, np.int64).reshape(-1, 2)
    probabilities = np.array(ran.probabilities, np.float32)
    answer = Heard(heard.rate.rate_hz, first, heard.dropped, probabilities, segments)
    return Advance(
        heard_tensors(answer),
        {**ran.state, **_kept(rest, half, heard, segments)},
        ran.times,
        ran.executions,
    )


async def _run_frames(
    spec: ModelSpec, audio: AudioSpec, frames: Sequence[Array], state: State, run: Run
) -> _Course:
    """Each frame with the state that the one before it left. They run one after the other, so their times add up."""
    carried: State = {pair.input: state[pair.input] for pair in spec.state}
    probabilities: list[float] = []
    executions: list[Execution] = []
    queue_s, compute_s, batch_rows = 0.0, 0.0, 0
    for frame in frames:
        ran = await run({audio.output: frame, **carried})
        outputs, execution = ran.result
        carried = {pair.input: outputs[pair.output] for pair in spec.state}
        probabilities.append(outputs[audio.score].item())
        executions.append(execution)
        queue_s += ran.queue_s
        compute_s += ran.compute_s
        batch_rows = max(batch_rows, ran.batch_rows)
    left = next_state(spec, outputs) if frames else carried
    return _Course(left, probabilities, Times(queue_s, 0.0, compute_s, batch_rows), executions)


def _resume(
    audio: AudioSpec, state: State, rate_hz: int, *, starts: bool
) -> tuple[Array, Array, Segmenter]:
    """The samples that the next frame begins with, half of the next one, and the segmenter as it was.

    Raises BadRequest.
    """
    if starts:
        rate = _rate(audio, rate_hz or audio.rates[0].rate_hz)
        return np.zeros(rate.context, np.int16), np.zeros(0, np.uint8), Segmenter(rate)
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
        _rate(audio, began_hz), frames, silent_from, dropped, state[_SEGMENTS].tolist()
    )
    return state[_SAMPLES], state[_HALF], segmenter


def _kept(rest: Array, half: Array, heard: Segmenter, segments: Array) -> State:
    marks = np.array([heard.rate.rate_hz, heard.frames, heard.silent_from, heard.dropped], np.int64)
    return {_SAMPLES: rest, _HALF: half, _MARKS: marks, _SEGMENTS: segments}


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
