"""Audio: results do not depend on how it is cut into chunks, and its state can be moved."""

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any

import numpy as np
import pytest
from tests.conformance.small_models import make_listener

from headrace.batching import Result
from headrace.errors import BadRequest, InferenceFailed, TooLarge
from headrace.inference.audio import NO_RATE, SpeechResult, chunk_tensors, read_result
from headrace.inference.request import Request, SequenceStep
from headrace.inference.sequences import SequenceKey, SequenceSnapshot, pack, unpack
from headrace.inference.tensor import from_array
from headrace.replica.audio import MAX_CHUNK_S, run_chunk
from headrace.replica.counters import Execution
from headrace.replica.host import Host
from headrace.replica.runner import PartResult
from headrace.replica.sequence_state import State, zeros
from headrace.telemetry.events import ReplicaEvents
from headrace_models.postprocess.speech import MAX_SEGMENTS
from headrace_models.repository import ModelVersion, read_version
from headrace_models.spec import ModelSpec

SOUND = (np.sin(np.arange(203)) * 20_000).astype("<i2")
CHUNKS = [1, 3, 4, 5, 100, 203]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> ModelVersion:
    folder = tmp_path_factory.mktemp("listener")
    return read_version(make_listener(folder, folder / "repository"))


@pytest.fixture
def spec(version: ModelVersion) -> ModelSpec:
    return version.spec


class AudioStream:
    """Audio whose model mixes the frame's loudest sample with earlier ones; `ran` counts frames."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self.state: State = zeros(spec)
        self.ran = 0
        self.fails_at = -1

    async def take(
        self,
        pcm: "np.ndarray | bytes",
        rate_hz: int = NO_RATE,
        *,
        starts: bool = False,
        ends: bool = False,
    ) -> SpeechResult:
        step, chunk = SequenceStep("7", starts, ends), chunk_tensors("pcm", bytes(pcm), rate_hz)
        came = await run_chunk(
            self._spec, step, chunk, zeros(self._spec) if starts else self.state, self._run
        )
        self.state = came.state
        result = read_result(came.outputs)
        assert len(came.executions) == len(result.probabilities)
        return result

    async def _run(self, part: Mapping[str, Any]) -> Result[PartResult]:
        if self.ran == self.fails_at:
            raise InferenceFailed("the model failed on this request")
        self.ran += 1
        score = np.abs(part["frame"]).max(axis=1, keepdims=True) * 0.9 + part["sum"] * 0.1
        return Result(
            PartResult({"loudness": score, "sumN": score}, Execution(1, 0, 0, 0)), 0.5, 0.25, 1
        )

    async def take_all(
        self, sound: "np.ndarray | bytes", size: int, rate_hz: int
    ) -> tuple[list[float], SpeechResult]:
        """All probabilities of a sound in chunks of a size, and what was found at the end."""
        found: list[float] = []
        for start in range(0, len(sound), size):
            chunk, ends = sound[start : start + size], start + size >= len(sound)
            result = await self.take(chunk, rate_hz, starts=start == 0, ends=ends)
            assert result.first_frame == len(found)
            found += result.probabilities.tolist()
        return found, result


@pytest.mark.parametrize("rate_hz", [16000, 8000])
@pytest.mark.parametrize("size", CHUNKS)
async def test_what_is_found_is_the_same_whatever_the_size_of_the_chunks(
    spec: ModelSpec, size: int, rate_hz: int
) -> None:
    (expected, last), (found, result) = [
        await AudioStream(spec).take_all(SOUND, n, rate_hz) for n in (len(SOUND), size)
    ]
    assert found == expected
    assert len(found) == -(-len(SOUND) // (4 if rate_hz == 16000 else 2))
    assert result.segments.tolist() == last.segments.tolist()


@pytest.mark.parametrize("size", [1, 3, 7, 101])
async def test_chunks_may_end_in_the_middle_of_a_sample(spec: ModelSpec, size: int) -> None:
    expected, found = [
        await AudioStream(spec).take_all(SOUND.tobytes(), n, NO_RATE)
        for n in (2 * len(SOUND), size)
    ]
    assert found[0] == expected[0]
    assert found[1].segments.tolist() == expected[1].segments.tolist()


async def test_the_half_of_a_sample_outlasts_empty_and_failed_chunks(spec: ModelSpec) -> None:
    sound, stream = SOUND[:8].tobytes(), AudioStream(spec)
    (expected, _), found = (
        await AudioStream(spec).take_all(sound, len(sound), NO_RATE),
        list[float](),
    )
    found += (await stream.take(sound[:7], starts=True)).probabilities.tolist()
    found += (await stream.take(b"")).probabilities.tolist()
    stream.fails_at = stream.ran
    with pytest.raises(InferenceFailed):
        await stream.take(sound[7:])
    stream.fails_at = -1
    found += (await stream.take(sound[7:], ends=True)).probabilities.tolist()
    assert found == expected


async def test_a_stream_cannot_end_in_half_a_sample(spec: ModelSpec) -> None:
    stream = AudioStream(spec)
    await stream.take(SOUND[:4].tobytes() + b"\1", starts=True)
    with pytest.raises(
        BadRequest, match="expected whole 16-bit samples when the stream ends, found one byte left"
    ):
        await stream.take(b"", ends=True)
    assert len((await stream.take(b"\2", ends=True)).probabilities) == 1


async def test_a_chunk_that_completes_no_frame_runs_none(spec: ModelSpec) -> None:
    stream = AudioStream(spec)
    for n, pcm in enumerate((SOUND[:0], SOUND[:3], SOUND[:0])):
        result = await stream.take(pcm, starts=n == 0)
        assert (result.probabilities.tolist(), result.rate_hz, result.first_frame) == ([], 16000, 0)
    assert stream.ran == 0
    assert len((await stream.take(SOUND[3:4])).probabilities) == 1


async def test_the_end_runs_the_frame_that_is_not_whole_and_closes_the_open_segment(
    spec: ModelSpec,
) -> None:
    stream = AudioStream(spec)
    assert (await stream.take(np.full(4, 30_000, "<i2"), starts=True)).segments.tolist() == [
        [0, -1]
    ]
    result = await stream.take(np.full(1, 30_000, "<i2"), ends=True)
    assert (len(result.probabilities), result.segments.tolist()) == (1, [[0, 5]])


async def test_a_failed_chunk_leaves_the_stream_where_it_was(spec: ModelSpec) -> None:
    whole, broken = AudioStream(spec), AudioStream(spec)
    for stream in (whole, broken):
        await stream.take(SOUND[:50], starts=True)
    before = {name: array.copy() for name, array in broken.state.items()}
    broken.fails_at = broken.ran + 5
    with pytest.raises(InferenceFailed):
        await broken.take(SOUND[50:])
    assert before.keys() == broken.state.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(broken.state[name], array)
    broken.fails_at = -1
    again, expected = await broken.take(SOUND[50:]), await whole.take(SOUND[50:])
    assert again.probabilities.tolist() == expected.probabilities.tolist()


@pytest.mark.parametrize("half", [b"", b"\7"])
async def test_a_stream_goes_on_where_it_is_handed_to(spec: ModelSpec, half: bytes) -> None:
    first, second = AudioStream(spec), AudioStream(spec)
    await first.take(SOUND[:77].tobytes() + half, starts=True)
    (handed,) = unpack(*pack([SequenceSnapshot(SequenceKey("", "7"), first.state)]))
    second.state = handed.state
    there, here = await second.take(SOUND[77:]), await first.take(SOUND[77:])
    assert there.probabilities.tolist() == here.probabilities.tolist()
    assert there.segments.tolist() == here.segments.tolist()


async def test_only_the_last_segments_are_returned(spec: ModelSpec) -> None:
    burst = np.concatenate([np.full(4, 30_000, "<i2"), np.zeros(1996, "<i2")])
    result = await AudioStream(spec).take(np.tile(burst, MAX_SEGMENTS + 5), starts=True)
    assert (len(result.segments), result.dropped) == (MAX_SEGMENTS, 5)


async def test_a_stream_keeps_the_rate_that_it_began_with(spec: ModelSpec) -> None:
    stream = AudioStream(spec)
    await stream.take(SOUND[:4], 8000, starts=True)
    assert (await stream.take(SOUND[:4], 8000)).rate_hz == 8000
    with pytest.raises(
        BadRequest, match="sample_rate: expected 8000, as when the stream began, found 16000"
    ):
        await stream.take(SOUND[:4], 16000)
    with pytest.raises(
        BadRequest, match=r"sample_rate: expected one of \[16000, 8000\], found 44100"
    ):
        await stream.take(SOUND[:4], 44100, starts=True)


@pytest.mark.parametrize("rate_hz", [16000, 8000])
async def test_a_chunk_has_a_minute_of_audio_at_most(spec: ModelSpec, rate_hz: int) -> None:
    stream = AudioStream(spec)
    with pytest.raises(
        TooLarge, match=f"at most 60 s of audio, {120 * rate_hz} bytes at {rate_hz} Hz"
    ):
        await stream.take(np.zeros(MAX_CHUNK_S * rate_hz + 1, "<i2"), rate_hz, starts=True)
    assert stream.ran == 0


async def test_the_batches_of_a_host_have_frames_of_many_streams(version: ModelVersion) -> None:
    async with Host(version, "onnx", ReplicaEvents()) as host:

        async def take(name: str, *, starts: bool) -> list[float]:
            chunk = chunk_tensors(
                "pcm", (SOUND[:12] if starts else SOUND[12:24]).tobytes(), NO_RATE
            )
            step = SequenceStep(name, starts)
            answer = await host.infer(Request(chunk, (), monotonic() + 10, sequence=step))
            return list(read_result(answer.outputs).probabilities.tolist())

        for starts in (True, False):
            found = await asyncio.gather(*(take(str(n), starts=starts) for n in range(8)))
            assert found == [found[0]] * 8
        counted = host.statistics()
        assert (counted.inference_count, counted.inference_stats.success.count) == (8 * 6, 16)
        assert counted.execution_count < 8 * 6


async def test_a_sequence_is_either_a_stream_or_of_infer_requests(version: ModelVersion) -> None:
    frame = [from_array("frame", np.ones((1, 6), np.float32))]
    chunk = chunk_tensors("pcm", SOUND[:4].tobytes(), NO_RATE)
    async with Host(version, "onnx", ReplicaEvents()) as host:

        async def take(inputs: Any, name: str, *, starts: bool = False) -> object:
            return await host.infer(
                Request(inputs, (), monotonic() + 10, sequence=SequenceStep(name, starts))
            )

        await take(chunk, "a stream", starts=True)
        await take(frame, "steps", starts=True)
        with pytest.raises(
            BadRequest, match="expected a sequence of infer requests, found a stream of audio"
        ):
            await take(frame, "a stream")
        with pytest.raises(
            BadRequest, match="expected a stream of audio, found a sequence of infer requests"
        ):
            await take(chunk, "steps")
        await take(chunk, "a stream")
        await take(frame, "a stream", starts=True)
