"""The Open Inference Protocol's inference: tensors in, tensors out, as JSON or binary."""

from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta
from pydantic import BaseModel, ConfigDict, Field

from headrace.edge.exchange import MAX_TIMEOUT_S, Response
from headrace.gateway.api.answers import Count, answer_headers
from headrace.gateway.api.context import Call
from headrace.gateway.api.endpoint import (
    BINARY,
    MANY_TYPES,
    OCTETS,
    TRUNCATED_HEADER,
    V2_MODEL,
    Api,
    Endpoint,
    every_model,
    parameter,
    with_version,
)
from headrace.gateway.api.run_request import read_infer, run_infer
from headrace.gateway.api.versions import names_version, version_of
from headrace.gateway.json.document import MAX_PARAMETERS, MAX_TENSORS
from headrace.gateway.routing.version import Version
from headrace.gateway.wire.compression import deflate, inflate, wanted_encoding
from headrace.gateway.wire.infer import InferBody, header_bytes
from headrace.gateway.wire.parameters import MAX_PRIORITY
from headrace_models.spec.tensors import Datatype

__all__ = ["ENDPOINTS", "Id", "InferParameters", "Scalar"]

Scalar = str | float | bool | None
Id = Annotated[str, Field(max_length=1024, pattern=r"^[^\u0000-\u001f\u007f]*$")]
NonNegative = Annotated[int, Field(ge=0)]


class _Parameters(BaseModel):
    """Parameters beside those listed are ignored."""

    __pydantic_extra__: dict[str, Scalar] = Field(init=False)
    model_config = ConfigDict(
        extra="allow", json_schema_extra={"maxProperties": MAX_PARAMETERS}, protected_namespaces=()
    )


class InferParameters(_Parameters):
    timeout: int = Field(
        default=0,
        ge=0,
        le=int(MAX_TIMEOUT_S * 1e6),
        description="microseconds from receipt to answer",
    )
    priority: int = Field(
        default=0, ge=0, le=MAX_PRIORITY, description="1 is the highest, 0 the default"
    )
    binary_data_output: bool = Field(
        default=False, description="binary outputs, where none are listed"
    )
    sequence_id: NonNegative | Annotated[str, Field(max_length=128)] = 0
    sequence_start: bool = False
    sequence_end: bool = False


class InputParameters(_Parameters):
    binary_data_size: NonNegative = Field(
        default_factory=int, description="bytes behind the JSON part, instead of data"
    )


class OutputParameters(_Parameters):
    binary_data: bool = False
    classification: int = Field(
        default_factory=int, ge=1, description="so many best classes instead of values"
    )


class InferInput(BaseModel):
    name: str
    shape: list[NonNegative]
    datatype: Datatype
    parameters: InputParameters = Field(default_factory=InputParameters)
    data: list[Any] = Field(default_factory=list, description="flat, or nested as the shape says")


class InferOutput(BaseModel):
    name: str
    parameters: OutputParameters = Field(default_factory=OutputParameters)


class InferRequest(BaseModel):
    """An infer body. Its codec reads it in bounded time; this serves the document alone."""

    id: Id = ""
    parameters: InferParameters = Field(default_factory=InferParameters)
    inputs: list[InferInput] = Field(min_length=1, max_length=MAX_TENSORS)
    outputs: list[InferOutput] = Field(default_factory=list, max_length=MAX_TENSORS)


class BinarySize(TypedDict):
    binary_data_size: Count


class OutputTensor(TypedDict):
    name: str
    shape: list[Count]
    datatype: Datatype
    data: NotRequired[
        Annotated[list[Scalar], Meta(description="flat; null for a number that is not finite")]
    ]
    parameters: NotRequired[BinarySize]


class AnswerParameters(TypedDict):
    truncated: Annotated[str, Meta(description="the positions of the texts that were cut: 2,5")]


class InferAnswer(TypedDict):
    """An answer as its codec writes it."""

    model_name: str
    model_version: str
    id: NotRequired[str]
    parameters: NotRequired[AnswerParameters]
    outputs: list[OutputTensor]


async def infer(call: Call) -> Response:
    """Tensors in, tensors out: the Open Inference Protocol, in JSON or with binary tensors.

    Inference-Header-Content-Length is the length of the JSON part before binary tensors; 0 says
    that the body is the bytes of the model's only input, one row if it has rows. For a model with
    preprocessing the photo or text itself may be sent, as a BYTES input.
    """
    version = version_of(call)
    encoding = (call.exchange.header(b"content-encoding") or "identity").lower()
    if encoding == "identity":
        return await _infer(call, version, call.body)
    context, body = call.context, call.body
    inflated = await context.offload(
        len(body) << 10, inflate, body, encoding, context.max_inflated_bytes
    )
    with context.inflated.held(len(inflated)):
        return await _infer(call, version, inflated)


async def _infer(call: Call, version: Version, content: bytes) -> Response:
    version, body = await _read(call, version, content)
    version, answer = await run_infer(call, version, body)
    codec, offload = version.codec, call.context.offload
    encoded, json_bytes = await offload(
        codec.writing_cost(answer, body), codec.encode, answer, body
    )
    headers = answer_headers(answer)
    if encoding := wanted_encoding(call.exchange.header(b"accept-encoding")):
        encoded = await offload(len(encoded), deflate, encoded, encoding)
        headers.append((b"content-encoding", encoding.encode()))
    if not json_bytes:
        return Response(200, encoded, headers=headers)
    headers.append((b"inference-header-content-length", b"%d" % json_bytes))
    return Response(200, encoded, b"application/octet-stream", headers)


async def _read(call: Call, version: Version, body: bytes) -> tuple[Version, InferBody]:
    """The body, and the version that it is for.

    That is in question only if several versions are served, one of them with state, and the path
    names none.
    """
    codec = version.codec
    length = call.exchange.header(b"inference-header-content-length")
    cost = codec.reading_cost(body, length)
    if length == "0" or names_version(call) or not _may_be_elsewhere(call, version):
        return version, await call.context.offload(cost, codec.decode, body, length)
    split = len(body) if length is None else header_bytes(length, len(body))
    json: bytes | memoryview = body if length is None else memoryview(body)[:split]
    tail = memoryview(body)[split:]
    return await read_infer(call, version, json, lambda v, d: v.codec.read(d, tail), cost)


def _may_be_elsewhere(call: Call, version: Version) -> bool:
    """Tell whether another version than this one may have the sequence of a step."""
    versions = call.context.router.models().get(version.spec.name, {})
    return len(versions) > 1 and any(served.spec.state for served in versions.values())


_DOMAINS = {
    "name": "text",
    "shape": [2],
    "datatype": "BYTES",
    "data": ["wikipedia.org", "xkqjzvbwpt.com"],
}
_IDS = {"name": "ids", "shape": [1, 4], "datatype": "INT64", "data": [19, 26, 33, 1]}

ENDPOINTS = (
    Endpoint(
        method="POST",
        paths=with_version(V2_MODEL, "/infer"),
        handler=infer,
        api=Api(name="infer", about="Tensors in, tensors out.", serves=every_model),
        reads=MANY_TYPES,
        body=InferRequest,
        body_media={OCTETS: BINARY},
        examples={
            "texts": {"id": "42", "inputs": [_DOMAINS]},
            "tensors": {"inputs": [_IDS], "outputs": [{"name": "probabilities"}]},
            "best_class": {
                "inputs": [_DOMAINS],
                "outputs": [{"name": "probabilities", "parameters": {"classification": 1}}],
                "parameters": {"timeout": 5_000_000, "priority": 1},
            },
        },
        parameters=(
            parameter(
                "Inference-Header-Content-Length",
                "header",
                {"type": "integer", "minimum": 0},
                "bytes of the JSON part; 0: the body is the bytes of one row of the only input",
            ),
            parameter(
                "Content-Encoding",
                "header",
                {"type": "string", "enum": ["gzip", "deflate", "identity"]},
            ),
            parameter(
                "Accept-Encoding",
                "header",
                {"type": "string", "enum": ["gzip", "deflate"]},
                "a single one compresses the answer; a list, as HTTP libraries send it, does not",
            ),
        ),
        may_be_compressed=True,
        answer=InferAnswer,
        answer_media={OCTETS: BINARY},
        headers={
            **TRUNCATED_HEADER,
            "Inference-Header-Content-Length": {
                "description": "bytes of the JSON part, where binary tensors follow it",
                "schema": {"type": "integer", "minimum": 1},
            },
            "Content-Encoding": {
                "description": "where one was asked for",
                "schema": {"enum": ["gzip", "deflate"]},
            },
        },
        runs_model=True,
        takes_sequences=True,
    ),
)
