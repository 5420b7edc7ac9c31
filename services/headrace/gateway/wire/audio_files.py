"""Recognizes audio files where PCM is expected, by their first bytes, and reads WAV files."""

import re
import wave
from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

from headrace.errors import BadRequest
from headrace.inference.tensor import Buffer

__all__ = ["WAV_TYPES", "Wav", "begins_as_wav", "check_no_file", "read_wav"]

WAV_TYPES = ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave")
# A header is read no further than this, so that one of many chunks takes only a few milliseconds.
_MAX_HEADER_BYTES = 16 << 10
# Writers that do not know the length yet say 0 or the maximum.
_ANY_LENGTH = b"\xff\xff\xff\xff"
_SAMPLE_BYTES = 2
# WAVE_FORMAT_EXTENSIBLE of PCM includes what PCM's own format says; Python reads it from 3.12 on.
_EXTENSIBLE_PCM = re.compile(
    rb"(?<=fmt \x28\0\0\0)\xfe\xff(?=.{22}\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71)",
    re.DOTALL,
)
_PCM = b"\1\0"
# MPEG audio, layer III: kbit/s by index, of version 1, then of 2 and 2.5; and samples a second.
_BIT_RATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_BIT_RATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MP3_RATES_HZ = (44_100, 48_000, 32_000)
_VERSION_1 = 3
# The bits that the headers of all frames of a file share: the mark, version, layer and rate.
_SHARED_BY_FRAMES = 0xFFFE0C00


class Wav(NamedTuple):
    """The samples after a WAV file's header, 16-bit mono, as far as they have arrived."""

    rate_hz: int
    pcm: Buffer


def check_no_file(body: bytes) -> None:
    """Raise BadRequest if a stream begins as an audio file: its header would be taken for sound.

    PCM must pass, so each kind of file is recognized by more than its first four bytes.
    """
    if begins_as_wav(body):
        raise BadRequest("body: expected 16-bit PCM, found a WAV file: send it as audio/wav")
    if kind := _kind_of_file(body):
        raise BadRequest(f"body: expected 16-bit PCM, found {kind}: decode it first")


def begins_as_wav(body: bytes) -> bool:
    return body[:4] == b"RIFF" and body[8:12] == b"WAVE"


def read_wav(body: bytes, rates_hz: Sequence[int]) -> Wav:
    """Read mono 16-bit PCM of one of `rates_hz`. Raises BadRequest for others and half a header."""
    header = _EXTENSIBLE_PCM.sub(_PCM, body[8:_MAX_HEADER_BYTES])
    file = BytesIO(body[:4] + _ANY_LENGTH + header)
    try:
        with wave.open(file) as reader:
            channels = reader.getnchannels()
            width = reader.getsampwidth()
            rate_hz = reader.getframerate()
            size = reader.getnframes() * _SAMPLE_BYTES
            start = file.tell()
    except (wave.Error, EOFError) as error:
        raise BadRequest(
            "body: expected a WAV file of 16-bit PCM, with its complete header in the first chunk "
            f"and within {_MAX_HEADER_BYTES >> 10} KiB, found: {str(error) or 'its end'}"
        ) from None
    if (channels, width) != (1, _SAMPLE_BYTES) or rate_hz not in rates_hz:
        raise BadRequest(
            "body: expected a WAV file of 1 channel of 16 bits at "
            f"{' or '.join(map(str, rates_hz))} Hz, "
            f"found {channels} of {8 * width} bits at {rate_hz} Hz"
        )
    return Wav(rate_hz, body[start : start + size] if size else body[start:])


def _kind_of_file(body: bytes) -> str | None:
    if body[:4] == b"fLaC" and body[5:8] == b"\0\0\x22":  # its first block has 34 bytes
        return "a FLAC file"
    if body[:5] == b"OggS\0":
        return "an Ogg file"
    if body[:4] == b"FORM" and body[8:12] in (b"AIFF", b"AIFC"):
        return "an AIFF file"
    if body[4:8] == b"ftyp" and body[:3] == b"\0\0\0":
        return "an MP4 file"
    if body[:4] == b"\x1a\x45\xdf\xa3" and (b"webm" in body[:64] or b"matroska" in body[:64]):
        return "a WebM or Matroska file"
    return "an MP3 file" if _is_mp3(body) else None


def _is_mp3(body: bytes) -> bool:
    """True for an ID3 tag of a known version with a sound length, or two frames that match.

    The mark of one frame, 0xFFFB, may be a sample of -1025 as well.
    """
    if body[:3] == b"ID3" and len(body) >= 10 and body[3] in (2, 3, 4) and max(body[6:10]) < 0x80:
        return True
    first, length = _mp3_frame(body, 0)
    second, _ = _mp3_frame(body, length)
    return bool(length and second) and not (first ^ second) & _SHARED_BY_FRAMES


def _mp3_frame(body: bytes, start: int) -> tuple[int, int]:
    """The header and the length of a frame that begins at `start`; 0 and 0 without one."""
    header = int.from_bytes(body[start : start + 4])
    version = header >> 19 & 3
    layer = header >> 17 & 3
    bit_rate = header >> 12 & 15
    rate = header >> 10 & 3
    padding = header >> 9 & 1
    if header >> 21 != 0x7FF or version == 1 or layer != 1 or bit_rate in (0, 15) or rate == 3:
        return 0, 0
    rate_hz = _MP3_RATES_HZ[rate] >> (_VERSION_1 - version if version else 2)
    if version == _VERSION_1:
        return header, 144_000 * _BIT_RATES_1[bit_rate] // rate_hz + padding
    return header, 72_000 * _BIT_RATES_2[bit_rate] // rate_hz + padding
