"""Streams of audio: chunks of PCM in; probabilities and segments of speech out."""

import re
from typing import Annotated, NamedTuple, TypedDict
from urllib.parse import parse_qsl

from msgspec import Meta

from headrace.edge.exchange import Exchange, Response
from headrace.edge.framing import has_bad_escape
from headrace.edge.remembered import remember_short
from headrace.errors import BadRequest
from headrace.gateway.api.answers import Count, Written, answer_headers, json_response
from headrace.gateway.api.context import Call
from headrace.gateway.api.endpoint import (
    BINARY,
    OCTETS,
    V1_MODEL,
    Api,
    Endpoint,
    parameter,
    with_version,
)
from headrace.gateway.api.run_request import run_infer
from headrace.gateway.api.versions import version_of
from headrace.gateway.routing.version import Version
from headrace.gateway.wire.audio_files import WAV_TYPES, begins_as_wav, check_no_file, read_wav
from headrace.gateway.wire.infer import InferBody
from headrace.gateway.wire.sequence import step_of
from headrace.inference.audio import NO_RATE, SpeechResult, chunk_tensors, read_result
from headrace.inference.request import SequenceStep
from headrace.inference.tensor import Buffer
from headrace_models.postprocess.speech import OPEN
from headrace_models.spec import AudioSpec, ModelSpec

__all__ = ["ENDPOINTS"]

_NAMES = ("sequence_id", "sequence_start", "sequence_end", "sample_rate")
_FLAGS = {"true": True, "false": False}
# As JSON has it: what looks so is the sequence that an infer request names by a number. 2^63 has 19
# digits.
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")


class _Parameters(NamedTuple):
    """The query of a chunk: its step, the sequence's id as written, and the rate or NO_RATE."""

    step: SequenceStep
    given_id: int | str
    rate_hz: int


class SpeechSegment(TypedDict):
    start_s: float
    end_s: float | None


class StreamAnswer(TypedDict):
    model: str
    version: str
    sequence_id: int | str
    sample_rate: Count
    first_frame: Annotated[
        int, Meta(ge=0, description="the number in the stream of the first of `probabilities`")
    ]
    frame_s: float
    probabilities: Written[list[float | None]]
    segments: list[SpeechSegment]
    segments_dropped: Annotated[
        int, Meta(ge=0, description="earlier segments, which are no longer listed")
    ]


async def listen(call: Call) -> Response:
    """Takes a chunk of audio; answers how likely each frame is speech, and the segments so far.

    The body is 16-bit little-endian mono PCM, of any length. Chunks need not end where frames or
    samples do: what is left over waits for the next one. With `sequence_end` the last frame is
    filled up with zeros. As `audio/wav` the first chunk begins with the header of a WAV file, which
    has the rate.
    """
    version = version_of(call)
    audio = version.spec.audio
    if audio is None:
        raise BadRequest("the model takes no stream of audio; use /v2/models/{model}/infer")
    parameters = _read(call.exchange.query)
    _check_rate(audio, parameters.rate_hz)
    pcm, rate_hz = _sound(call.exchange, audio, parameters, call.body)
    inputs = chunk_tensors(audio.input, pcm, rate_hz)
    body = InferBody(inputs=inputs, sequence=parameters.step)
    found, answer = await run_infer(call, version, body)
    document = _document(found, audio, parameters.given_id, read_result(answer.outputs))
    return json_response(document, *answer_headers(answer))


def _sound(
    exchange: Exchange, audio: AudioSpec, parameters: _Parameters, body: bytes
) -> tuple[Buffer, int]:
    """The PCM of a chunk, and its rate or NO_RATE. Any chunk may begin with a WAV header."""
    if exchange.content_type not in WAV_TYPES:
        if parameters.step.starts:
            check_no_file(body)
        return body, parameters.rate_hz
    if not parameters.step.starts and not begins_as_wav(body):
        return body, parameters.rate_hz
    wav = read_wav(body, [rate.rate_hz for rate in audio.rates])
    if parameters.rate_hz not in (NO_RATE, wav.rate_hz):
        raise BadRequest(
            f"sample_rate: expected {wav.rate_hz}, as the WAV file has, found {parameters.rate_hz}"
        )
    return wav.pcm, wav.rate_hz


@remember_short  # the chunks of a stream mostly have the same query
def _read(query: bytes) -> _Parameters:
    """Raises BadRequest."""
    given = _pairs(query)
    text = given.get("sequence_id", "")
    given_id = int(text) if _INTEGER.fullmatch(text) else text
    flags = {name: _FLAGS.get(given[name], given[name]) for name in _NAMES[1:3] if name in given}
    step = step_of({"sequence_id": given_id, **flags}, where="")
    if step is None:
        raise BadRequest(
            "sequence_id: expected the stream's id in the query, "
            "as in ?sequence_id=call-17&sequence_start=true, found none"
        )
    return _Parameters(step, given_id, _rate_of(given.get("sample_rate")))


def _pairs(query: bytes) -> dict[str, str]:
    """The query's names and values; each name is known, and there once."""
    try:
        if has_bad_escape(query):
            raise ValueError
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
        )
    except ValueError:
        raise BadRequest(
            "query: expected name=value pairs between &, with UTF-8 behind % escapes"
        ) from None
    given = dict(pairs)
    if not given.keys() <= set(_NAMES) or len(given) != len(pairs):
        raise BadRequest(
            f"query: expected each of {', '.join(_NAMES)} once at most, found another or one twice"
        )
    return given


def _rate_of(value: str | None) -> int:
    if value is None:
        return NO_RATE
    if not re.fullmatch(r"[1-9][0-9]{0,8}", value):
        raise BadRequest("sample_rate: expected samples a second as a number")
    return int(value)


def _check_rate(audio: AudioSpec, rate_hz: int) -> None:
    known = [rate.rate_hz for rate in audio.rates]
    if rate_hz not in (NO_RATE, *known):
        raise BadRequest(f"sample_rate: expected {' or '.join(map(str, known))}, found {rate_hz}")


def _document(
    version: Version, audio: AudioSpec, given_id: int | str, result: SpeechResult
) -> StreamAnswer:
    hop = next(rate.hop for rate in audio.rates if rate.rate_hz == result.rate_hz)
    return {
        "model": version.spec.name,
        "version": version.spec.version,
        "sequence_id": given_id,
        "sample_rate": result.rate_hz,
        "first_frame": result.first_frame,
        "frame_s": hop / result.rate_hz,
        "probabilities": result.probabilities,
        "segments": [
            {
                "start_s": start / result.rate_hz,
                "end_s": None if end == OPEN else end / result.rate_hz,
            }
            for start, end in result.segments.tolist()
        ],
        "segments_dropped": result.dropped,
    }


def _has_audio(spec: ModelSpec) -> bool:
    return spec.audio is not None


ENDPOINTS = (
    Endpoint(
        method="POST",
        paths=with_version(V1_MODEL, ":stream"),
        handler=listen,
        api=Api(name="stream", about="Audio in, chunk by chunk; speech out.", serves=_has_audio),
        reads=("", OCTETS, "audio/pcm", *WAV_TYPES),
        body_media=dict.fromkeys((OCTETS, "audio/pcm", "audio/wav"), BINARY),
        body_required=False,
        path_parameters={"model": {"example": "silero-vad"}},
        parameters=(
            parameter(
                "sequence_id",
                "query",
                {"type": "string", "minLength": 1, "maxLength": 128},
                "the stream; what looks like an integer is one",
                required=True,
                example="call-17",
            ),
            parameter(
                "sequence_start",
                "query",
                {"type": "boolean"},
                "true: this chunk is the stream's first",
                example=True,
            ),
            parameter(
                "sequence_end",
                "query",
                {"type": "boolean"},
                "true: this chunk is the stream's last",
            ),
            parameter(
                "sample_rate",
                "query",
                {"type": "integer", "minimum": 1},
                "samples a second, given with the first chunk; by default the model's first rate",
            ),
        ),
        answer=StreamAnswer,
        runs_model=True,
        takes_sequences=True,
    ),
)
