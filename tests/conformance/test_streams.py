"""The endpoint for streams of audio: what its query and its body may say, and real speech as silero
itself hears it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import onnxruntime
import pytest
from loadtests.support.checkout import REPOSITORY
from loadtests.support.http_request import HttpAnswer
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform
from tests import data
from tests.conformance.small_models import make_accumulator, make_listener
from tests.conformance.talk import post, refused, tensor

from headrace.edge.limits import EdgeLimits
from headrace.keys.file import add_key
from headrace.keys.key import issue, utc_now
from headrace_models.fetch import read_member
from headrace_models.repository import read_version
from headrace_models.zoo import silero_vad

LOUD, QUIET = np.full(4, 16384, "<i2"), np.zeros(4, "<i2")
START = {"sequence_start": "true"}
END = {"sequence_end": "true"}
WHOLE = START | END


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    """A gateway before `listener`."""
    with in_process_platform(tmp_path_factory.mktemp("listener"), make=make_listener) as running:
        yield running


def say(
    running: InProcessPlatform,
    pcm: "np.ndarray | bytes",
    name: object = "call 17",
    *,
    key: str = "",
    **query: object,
) -> HttpAnswer:
    """Send a chunk of a stream. The names of what the query says are without their `sequence_`."""
    return ask(running, urlencode({"sequence_id": name, **query}), bytes(pcm), key)


def ask(
    running: InProcessPlatform,
    query: str,
    body: bytes = b"",
    key: str = "",
    model: str = "listener",
) -> HttpAnswer:
    headers = {"Content-Type": "audio/pcm"} | ({"Authorization": f"Bearer {key}"} if key else {})
    return post(running.port, f"/v1/models/{model}:stream?{query}", body, headers)


def heard(said: HttpAnswer) -> Any:
    assert said.status == 200, said.body
    return said.json


def test_a_stream_is_answered_frame_by_frame_with_the_segments_so_far(
    listener: InProcessPlatform,
) -> None:
    assert heard(say(listener, np.concatenate([QUIET, LOUD]).tobytes() + b"\1\0", **START)) == {
        "model": "listener",
        "version": "1",
        "sequence_id": "call 17",
        "sample_rate": 16000,
        "first_frame": 0,
        "frame_s": 0.00025,
        "probabilities": [0.0, 0.5],
        "segments": [{"start_s": 0.0, "end_s": None}],
        "segments_dropped": 0,
    }
    last = heard(say(listener, b"", **END))
    assert (last["first_frame"], len(last["probabilities"])) == (2, 1)
    assert last["segments"] == [{"start_s": 0.0, "end_s": 9 / 16000}]
    assert refused(say(listener, b""), 400, "sequence_unknown")


def test_a_number_in_the_query_is_the_sequence_that_infer_calls_by_the_number(
    listener: InProcessPlatform,
) -> None:
    assert heard(say(listener, LOUD, 7, **START))["sequence_id"] == 7
    frame = tensor("frame", [1, 6], [0.0] * 6)
    said = post(
        listener.port,
        "/v2/models/listener/infer",
        {"inputs": [frame], "parameters": {"sequence_id": 7}},
    )
    assert refused(said, 400, "bad_request")
    assert "found a stream of audio" in said.json["error"]
    assert heard(say(listener, LOUD, "07", **WHOLE))["sequence_id"] == "07"
    assert heard(say(listener, LOUD, 7, **END))["first_frame"] == 1


def test_the_rate_is_said_at_the_start_and_kept(listener: InProcessPlatform) -> None:
    first = heard(say(listener, LOUD, sample_rate=8000, **START))
    assert (first["sample_rate"], first["frame_s"], len(first["probabilities"])) == (
        8000,
        0.00025,
        2,
    )
    assert heard(say(listener, LOUD, sample_rate=8000))["first_frame"] == 2
    assert refused(say(listener, LOUD, sample_rate=16000), 400, "bad_request")
    assert heard(say(listener, b"", **END))["first_frame"] == 4


def test_the_version_may_be_in_the_path(listener: InProcessPlatform) -> None:
    path = (
        "/v1/models/listener/versions/{}:stream?sequence_id=1&sequence_start=true&sequence_end=true"
    )
    assert heard(post(listener.port, path.format(1), LOUD.tobytes()))["version"] == "1"
    assert refused(post(listener.port, path.format(2), LOUD.tobytes()), 404, "version_not_found")


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        (
            "",
            "sequence_id: expected the stream's id in the query, as in "
            "?sequence_id=call-17&sequence_start=true",
        ),
        ("sequence_id=0", "sequence_id: expected the stream's id"),
        ("sequence_start=true", "sequence_id: expected an id beside sequence_start"),
        ("sequence_id=-1", "sequence_id: expected an integer of 0 or more"),
        ("sequence_id=9223372036854775808", "sequence_id: expected an integer of 0 or more"),
        (
            "sequence_id=a%0Ab",
            "sequence_id: expected an integer of 0 or more or up to 128 printable",
        ),
        (
            "sequence_id=" + "a" * 129,
            "sequence_id: expected an integer of 0 or more or up to 128 printable",
        ),
        ("sequence_id=1&sequence_start=yes", "sequence_start: expected true or false"),
        ("sequence_id=1&sequence_id=2", "query: expected each of sequence_id, "),
        ("sequence_id=1&colour=red", "query: expected each of sequence_id, "),
        ("sequence_id", "query: expected name=value pairs"),
        ("sequence_id=1&", "query: expected name=value pairs"),
        ("sequence_id=%ff", "query: expected name=value pairs"),
        ("sequence_id=%zz", "query: expected name=value pairs"),
        (
            "sequence_id=1&sequence_start=true&sample_rate=44100",
            "sample_rate: expected 16000 or 8000, found 44100",
        ),
        (
            "sequence_id=1&sequence_start=true&sample_rate=1e4",
            "sample_rate: expected samples a second",
        ),
        (
            "sequence_id=1&sequence_start=true&sample_rate=",
            "sample_rate: expected samples a second",
        ),
    ],
)
def test_a_query_that_does_not_say_which_stream_it_is_is_refused(
    listener: InProcessPlatform, query: str, complaint: str
) -> None:
    said = ask(listener, query)
    assert refused(said, 400, "bad_request")
    assert complaint in said.json["error"]


def test_half_a_sample_waits_for_its_other_half(listener: InProcessPlatform) -> None:
    sound = np.concatenate([LOUD, QUIET]).tobytes()
    expected = heard(say(listener, sound, "whole", **WHOLE))
    first = heard(say(listener, sound[:9], "half", **START))
    last = heard(say(listener, sound[9:], "half", **END))
    assert first["probabilities"] + last["probabilities"] == expected["probabilities"]
    assert last["segments"] == expected["segments"]


def test_a_byte_left_over_at_the_end_is_told_and_changes_nothing(
    listener: InProcessPlatform,
) -> None:
    assert heard(say(listener, LOUD.tobytes() + b"\1", "left", **START))["first_frame"] == 0
    said = say(listener, b"", "left", **END)
    assert refused(said, 400, "bad_request")
    assert (
        said.json["error"]
        == "body: expected whole 16-bit samples when the stream ends, found one byte left over"
    )
    assert heard(say(listener, b"\0", "left", **END))["first_frame"] == 1


def test_more_than_a_minute_is_refused(tmp_path: Path) -> None:
    with in_process_platform(tmp_path, make=make_listener, edge=EdgeLimits()) as running:
        said = say(running, b"\0" * (120 * 8000 + 2), sample_rate=8000, **START)
        assert refused(said, 413, "too_large")
        assert (
            "at most 60 s of audio, 960000 bytes at 8000 Hz, found 960002 bytes"
            in said.json["error"]
        )


def test_a_model_without_audio_says_where_to_ask(tmp_path: Path) -> None:
    with in_process_platform(tmp_path, make=make_accumulator) as running:
        said = ask(running, "sequence_id=1&sequence_start=true", model="accumulator")
        assert refused(said, 400, "bad_request")
        assert "use /v2/models/{model}/infer" in said.json["error"]


def test_a_stream_belongs_to_its_key(tmp_path: Path) -> None:
    issued = [issue(name, utc_now()) for name in ("ann", "bob")]
    for key, _ in issued:
        add_key(tmp_path / "keys.json", key)
    ann, bob = (text for _, text in issued)
    with in_process_platform(tmp_path, keys=tmp_path / "keys.json", make=make_listener) as running:
        assert heard(say(running, LOUD, key=ann, **START))["first_frame"] == 0
        assert refused(say(running, LOUD, key=bob), 400, "sequence_unknown")
        assert heard(say(running, LOUD, key=ann, **END))["first_frame"] == 1


@pytest.fixture(scope="module")
def silero(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    version = (REPOSITORY / "silero-vad" / "1").resolve()
    if not version.is_dir() or read_version(version).spec.audio is None:
        pytest.skip(f"silero-vad is not built, or of an earlier recipe: {version}")
    with in_process_platform(
        tmp_path_factory.mktemp("silero"), make=lambda _, __: version, edge=EdgeLimits()
    ) as running:
        yield running


@pytest.fixture(scope="module")
def published() -> onnxruntime.InferenceSession:
    """Silero's own file, whose state and rate are given by hand."""
    content = read_member(data.have(silero_vad.PACKAGE), "silero_vad/data/silero_vad.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def by_hand(session: onnxruntime.InferenceSession, pcm: "np.ndarray", rate_hz: int) -> list[float]:
    hop, old = rate_hz * 32 // 1000, rate_hz // 250
    sound = np.pad(pcm.astype(np.float32) / 32768, (old, -len(pcm) % hop))[np.newaxis]
    state, found = np.zeros((2, 1, 128), np.float32), []
    for start in range(0, sound.shape[1] - old, hop):
        inputs = {
            "input": sound[:, start : start + old + hop],
            "state": state,
            "sr": np.array(rate_hz),
        }
        score, state = session.run(None, inputs)
        found.append(float(score[0, 0]))
    return found


def speech(number: int, rate_hz: int) -> "np.ndarray":
    """A spoken prompt, INT16 at 8 kHz; at 16 kHz it is twice as fast."""
    return (data.samples(data.spoken_prompts()[number])[: 2 * rate_hz] * 32768).astype("<i2")


@pytest.mark.zoo
@pytest.mark.parametrize("rate_hz", [8000, 16000])
@pytest.mark.parametrize("size", [100, 512, 1536, 1 << 20], ids=str)
def test_speech_is_heard_as_silero_itself_hears_it_whatever_the_size_of_the_chunks(
    silero: InProcessPlatform, published: onnxruntime.InferenceSession, size: int, rate_hz: int
) -> None:
    sounds = {"a": speech(0, rate_hz), "b": speech(3, rate_hz)}
    found: dict[str, list[float]] = {name: [] for name in sounds}
    for start in range(0, max(map(len, sounds.values())), size):
        for name, sound in sounds.items():  # the two by turns
            flags = {
                "sequence_start": str(start == 0).lower(),
                "sequence_end": str(start + size >= len(sound)).lower(),
            }
            if start < len(sound):
                query = urlencode({"sequence_id": name, "sample_rate": rate_hz, **flags})
                said = ask(silero, query, sound[start : start + size].tobytes(), model="silero-vad")
                found[name] += heard(said)["probabilities"]
    for name, sound in sounds.items():
        assert [np.float32(p) for p in found[name]] == [
            np.float32(p) for p in by_hand(published, sound, rate_hz)
        ]
        assert max(found[name]) > 0.5
