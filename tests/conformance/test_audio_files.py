"""Audio files at the endpoint for audio: known by their heads, and refused by name except WAV."""

import io
import struct
import wave
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loadtests.support.http_request import HttpAnswer
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform
from tests.conformance.small_models import make_listener
from tests.conformance.talk import post, refused

from headrace.errors import BadRequest
from headrace.gateway.wire.audio_files import check_no_file, read_wav

SOUND = (np.sin(np.arange(101)) * 20_000).astype("<i2")
PCM = SOUND.tobytes()
RATES = (16_000, 8000)
WAV, PLAIN = "audio/wav", "audio/pcm"
START, END = {"sequence_start": "true"}, {"sequence_end": "true"}
NEXT = 0xFFFFFFFF


def wav(pcm: bytes = PCM, rate_hz: int = 16_000, channels: int = 1, width: int = 2) -> bytes:
    """A WAV file as Python writes it."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate_hz)
        writer.writeframes(pcm)
    return file.getvalue()


def riff(*chunks: tuple[bytes, bytes], size: int = NEXT) -> bytes:
    """A WAV file of these chunks."""
    parts = b"".join(name + struct.pack("<I", len(content)) + content for name, content in chunks)
    return b"RIFF" + struct.pack("<I", size) + b"WAVE" + parts


def fmt(
    kind: int = 1, channels: int = 1, rate_hz: int = 16_000, bits: int = 16
) -> tuple[bytes, bytes]:
    width = channels * bits // 8
    return b"fmt ", struct.pack("<HHIIHH", kind, channels, rate_hz, rate_hz * width, width, bits)


# The kinds of sound that an extensible format may name, by their GUIDs.
PCM_KIND, FLOAT = (
    bytes([kind, *bytes.fromhex("00000000001000800000aa00389b71")]) for kind in (1, 3)
)


def extensible(kind: bytes, **more: int) -> tuple[bytes, bytes]:
    """WAVE_FORMAT_EXTENSIBLE, as many recorders write it."""
    name, plain_format = fmt(0xFFFE, **more)
    return name, plain_format + struct.pack("<HHI", 22, more.get("bits", 16), 4) + kind


def streaming(pcm: bytes, size: int) -> bytes:
    """As writers write who cannot go back: both lengths are this one."""
    return riff(fmt(), size=size) + b"data" + struct.pack("<I", size) + pcm


def mp3_frame(body: int = 0) -> bytes:
    """MPEG 1, layer III, 128 kbit/s at 44,100 Hz: 417 bytes."""
    return b"\xff\xfb\x90\x00" + bytes([body]) * 413


FILES = {
    "a FLAC file": b"fLaC\x80\0\0\x22" + bytes(34),
    "an Ogg file": b"OggS\0\2" + bytes(50),
    "an AIFF file": b"FORM\0\0\1\0AIFFCOMM" + bytes(50),
    "an MP4 file": b"\0\0\0\x20ftypM4A " + bytes(50),
    "a WebM or Matroska file": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\1\x42\x82\x84webm" + bytes(50),
    "an MP3 file": b"ID3\4\0\0\0\0\x0f\x76" + bytes(50),
}


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    with in_process_platform(tmp_path_factory.mktemp("listener"), make=make_listener) as running:
        yield running


def say(
    running: InProcessPlatform, body: bytes, kind: str = WAV, name: str = "call", **query: object
) -> HttpAnswer:
    path = f"/v1/models/listener:stream?{urlencode({'sequence_id': name, **query})}"
    return post(running.port, path, body, {"Content-Type": kind} if kind else {})


def heard(said: HttpAnswer) -> Any:
    assert said.status == 200, said.body
    return said.json


def known_as(body: bytes) -> str:
    with pytest.raises(BadRequest) as caught:
        check_no_file(body)
    return caught.value.message


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("media", [PLAIN, "application/octet-stream", ""])
def test_a_file_is_refused_by_name_and_begins_no_stream(
    listener: InProcessPlatform, kind: str, media: str
) -> None:
    said = say(listener, FILES[kind], media, **START)
    assert refused(said, 400, "bad_request")
    assert said.json["error"] == f"body: expected 16-bit PCM, found {kind}: decode it first"
    assert refused(say(listener, PCM, media), 400, "sequence_unknown")


def test_a_wav_file_that_is_called_pcm_is_told_its_type(listener: InProcessPlatform) -> None:
    said = say(listener, wav(), PLAIN, **START)
    assert refused(said, 400, "bad_request")
    assert said.json["error"] == "body: expected 16-bit PCM, found a WAV file: send it as audio/wav"


def test_an_mp3_without_a_tag_is_known_by_two_frames() -> None:
    assert "found an MP3 file" in known_as(mp3_frame() + mp3_frame(1))
    padded = b"\xff\xfb\x92\x00" + bytes(414)
    assert "found an MP3 file" in known_as(padded + mp3_frame())
    slow = b"\xff\xf3\x40\xc0" + bytes(140)  # MPEG 2, 32 kbit/s at 22,050 Hz: 104 bytes
    assert "found an MP3 file" in known_as(slow[:104] + slow)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        np.full(2000, -1025, "<i2").tobytes(),  # each sample is the mark of a frame
        mp3_frame() + bytes(500),
        mp3_frame()[:4],
        b"ID3\4\0\0\x80\0\0\0" + bytes(50),
        b"ID3",
        b"RIFF" + bytes(50),
        b"fLaC" + bytes(50),
        b"OggS" + b"\1" * 50,
        bytes(4) + b"ftyq" + bytes(50),
        b"\x1a\x45\xdf\xa3" + bytes(100),
    ],
)
def test_sound_that_looks_like_a_file_for_some_bytes_is_sound(body: bytes) -> None:
    check_no_file(body)


@given(st.lists(st.integers(-32768, 32767), max_size=1000))
def test_sound_is_no_file(samples: list[int]) -> None:
    check_no_file(np.array(samples, "<i2").tobytes())


def test_only_the_first_chunk_of_a_stream_is_looked_at(listener: InProcessPlatform) -> None:
    heard(say(listener, PCM, PLAIN, "looked", **START))
    heard(say(listener, FILES["a FLAC file"], PLAIN, "looked", **END))


@pytest.mark.parametrize(
    "kind", [WAV, "audio/x-wav", "audio/wave", "audio/vnd.wave", "Audio/WAV; codecs=1"]
)
def test_a_wav_file_is_heard_as_the_sound_in_it(listener: InProcessPlatform, kind: str) -> None:
    expected = heard(say(listener, PCM, PLAIN, **START | END))
    assert heard(say(listener, wav(), kind, **START | END)) == expected


@pytest.mark.parametrize("rate_hz", RATES)
def test_a_wav_file_has_its_own_rate(listener: InProcessPlatform, rate_hz: int) -> None:
    for query in ({}, {"sample_rate": str(rate_hz)}):
        assert (
            heard(say(listener, wav(rate_hz=rate_hz), **query, **START | END))["sample_rate"]
            == rate_hz
        )
    said = say(listener, wav(rate_hz=rate_hz), sample_rate=24_000 - rate_hz, **START)
    assert refused(said, 400, "bad_request")
    expected = f"sample_rate: expected {rate_hz}, as the WAV file has, found {24_000 - rate_hz}"
    assert said.json["error"] == expected


@pytest.mark.parametrize("at", [44, 45, 100, 245])
def test_a_wav_file_may_come_in_chunks_of_any_size_behind_its_header(
    listener: InProcessPlatform, at: int
) -> None:
    expected = heard(say(listener, PCM, PLAIN, **START | END))
    first = heard(say(listener, wav()[:at], **START))
    last = heard(say(listener, wav()[at:], **END))
    assert first["probabilities"] + last["probabilities"] == expected["probabilities"]


def test_each_chunk_may_be_a_wav_file_of_its_own(listener: InProcessPlatform) -> None:
    expected = heard(say(listener, PCM, PLAIN, **START | END))
    first = heard(say(listener, wav(PCM[:80]), **START))
    assert refused(say(listener, wav(rate_hz=8000)), 400, "bad_request")
    last = heard(say(listener, wav(PCM[80:]), **END))
    assert first["probabilities"] + last["probabilities"] == expected["probabilities"]


@pytest.mark.parametrize("size", [0, NEXT, 0x7FFFFFFF, 0x80000000])
def test_a_writer_may_not_know_the_length_yet(size: int) -> None:
    assert bytes(read_wav(streaming(PCM, size), RATES).pcm) == PCM


def test_what_is_before_and_behind_the_sound_is_passed_over() -> None:
    others = (b"LIST", b"INFOISFT" + bytes(8)), (b"bext", bytes(602))
    assert (
        bytes(read_wav(riff(others[0], fmt(), others[1], (b"data", PCM), others[0]), RATES).pcm)
        == PCM
    )


@pytest.mark.parametrize("before", [(), ((b"bext", bytes(602)),)])
def test_an_extensible_format_of_pcm_is_pcm(before: tuple[tuple[bytes, bytes], ...]) -> None:
    told = read_wav(riff(*before, extensible(PCM_KIND), (b"data", PCM)), RATES)
    assert (told.rate_hz, bytes(told.pcm)) == (16_000, PCM)


def test_sound_that_looks_like_a_format_is_left_as_it_is() -> None:
    sound = b"".join(extensible(PCM_KIND)).replace(b"fmt ", b"fmt \x28\0\0\0")
    assert bytes(read_wav(riff(fmt(), (b"data", sound)), RATES).pcm) == sound


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (
            wav(channels=2),
            "expected a WAV file of 1 channel of 16 bits at 16000 or 8000 Hz, found 2 of 16 "
            "bits at 16000 Hz",
        ),
        (wav(rate_hz=44_100), "found 1 of 16 bits at 44100 Hz"),
        (wav(width=1), "found 1 of 8 bits at 16000 Hz"),
        (wav(PCM + b"\0", width=3), "found 1 of 24 bits at 16000 Hz"),
        (
            riff(fmt(3, bits=32), (b"data", PCM)),
            "expected a WAV file of 16-bit PCM, with its complete header in the first chunk "
            "and within 16 KiB, found: unknown format: 3",
        ),
        (riff((b"data", PCM), fmt()), "found: data chunk before fmt chunk"),
        (riff(fmt()), "found: fmt chunk and/or data chunk missing"),
        (wav()[:43], "found: "),
        (wav()[:30], "found: "),
        (wav()[:11], "found: "),
        (b"", "found: "),
        (PCM, "found: file does not start with RIFF id"),
        (FILES["a FLAC file"], "found: file does not start with RIFF id"),
        (b"RIFX" + wav()[4:], "found: file does not start with RIFF id"),
        (riff(*[(b"JUNK", b"")] * 100_000, fmt(), (b"data", PCM)), "found: "),
        (riff((b"JUNK", bytes(20_000)), fmt(), (b"data", PCM)), "within 16 KiB, found: "),
        (riff(fmt(), (b"iXML", bytes(20_000)), (b"data", PCM)), "within 16 KiB, found: "),
        (riff(extensible(FLOAT), (b"data", PCM)), "found: unknown "),
        (riff(extensible(PCM_KIND, channels=2), (b"data", PCM)), "found 2 of 16 bits at 16000 Hz"),
        (riff(extensible(PCM_KIND, bits=24), (b"data", PCM)), "found 1 of 24 bits at 16000 Hz"),
    ],
    ids=range(20),
)
def test_another_wav_file_is_refused_with_what_was_expected_and_found(
    body: bytes, found: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        read_wav(body, RATES)
    assert found in caught.value.message
    assert len(caught.value.message) <= 200


@given(st.binary(max_size=200), st.integers(0, 60), st.binary(max_size=40))
def test_no_bytes_are_more_than_refused(body: bytes, at: int, put: bytes) -> None:
    """Neither strange bytes nor a sound file with others in it."""
    for each in (body, wav()[:at] + put + wav()[at:], riff(fmt()) + body):
        check_no_file(body)
        try:
            read_wav(each, RATES)
        except BadRequest:
            continue
