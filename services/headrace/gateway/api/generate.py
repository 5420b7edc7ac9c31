"""Triton's generate extension: a flat JSON object in, a flat one out, by names of inputs and
outputs.

Source: Triton's protocol/extension_generate. Values are scalars or lists; `text_input` is the
model's raw text. The models here answer once, so the stream is one event.
"""

import math
from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta
from pydantic import BaseModel, ConfigDict, Field

from headrace.edge.bodies import printable
from headrace.edge.exchange import Response
from headrace.errors import BadRequest
from headrace.gateway.api.answers import answer_headers, json_response
from headrace.gateway.api.context import Call
from headrace.gateway.api.endpoint import (
    TRUNCATED_HEADER,
    V2_MODEL,
    Api,
    Endpoint,
    every_model,
    with_version,
)
from headrace.gateway.api.infer import Id, InferParameters, Scalar
from headrace.gateway.api.run_request import Document, read_infer, run_infer
from headrace.gateway.api.versions import version_of
from headrace.gateway.json.document import parameters_of, text
from headrace.gateway.json.elements import plain
from headrace.gateway.json.long_arrays import LongArray
from headrace.gateway.routing.version import Version
from headrace.gateway.wire.infer import InferBody
from headrace.inference.tensor import Tensor, to_array
from headrace_models.spec import ModelSpec

__all__ = ["ENDPOINTS"]

_TEXT, _OTHERS = "text_input", frozenset({"id", "parameters"})

Scalars = Scalar | list[Scalar]


class GenerateRequest(BaseModel):
    """Inputs by name beside the listed members. The handler reads it; this is for the document."""

    __pydantic_extra__: dict[str, Scalars] = Field(init=False)
    model_config = ConfigDict(extra="allow", json_schema_extra={"minProperties": 1})

    text_input: str = ""
    id: Id = ""
    parameters: InferParameters = Field(default_factory=InferParameters)


_STRING = {"type": "string"}
GenerateAnswer = Annotated[
    dict[str, Scalars],
    Meta(
        title="GenerateAnswer",
        description="Outputs by name beside the members listed.",
        extra_json_schema={
            "properties": {"model_name": _STRING, "model_version": _STRING, "id": _STRING},
            "required": ["model_name", "model_version"],
        },
    ),
]


async def generate(call: Call) -> Response:
    """Triton's generate: a flat object of inputs by name gives a flat object of outputs by name.

    Values are scalars or lists; `text_input` is the text of a model that reads text. One row a
    request.
    """
    version, body = await read_infer(call, version_of(call), call.body, _read, len(call.body))
    version, answer = await run_infer(call, version, body)
    document: dict[str, object] = {
        "model_name": version.spec.name,
        "model_version": version.spec.version,
    }
    if body.id:
        document["id"] = body.id
    if answer.truncated:
        document["truncated"] = answer.truncated
    document |= {tensor.name: _flat(tensor) for tensor in answer.outputs}
    return json_response(document, *answer_headers(answer))


async def generate_stream(call: Call) -> Response:
    """Generate, answered as server-sent events: one event, as the models here answer once."""
    response = await generate(call)
    event = b"data: " + response.body + b"\n\n"
    return response._replace(body=event, content_type=b"text/event-stream; charset=utf-8")


def _read(version: Version, document: Document) -> InferBody:
    given = {
        name: value for name, value in document.items() if name not in _OTHERS and value is not None
    }
    infer: dict[str, object] = {
        "inputs": [_input(version.spec, name, value) for name, value in given.items()],
        "parameters": parameters_of(document, "parameters"),
    }
    if given_id := text(document.get("id"), "id"):
        infer["id"] = given_id
    return version.codec.read(infer, memoryview(b""))


def _input(spec: ModelSpec, name: str, value: object) -> Mapping[str, object]:
    """An entry of an infer body: one row, whose variable axis is as long as the value."""
    raw = spec.raw.input if spec.raw else None
    if raw is not None and name in (_TEXT, raw):
        return {"name": raw, "datatype": "BYTES", "shape": [1], "data": [value]}
    known = {i.name: i for i in spec.inputs}
    if name not in known:
        raise BadRequest(
            f"body: expected one of {sorted([*known, _TEXT])}, found {printable(name)}"
        )
    if isinstance(value, LongArray):
        raise BadRequest(f"{name}: expected a short list; use infer for long ones")
    values = plain(value)
    values = values if isinstance(values, list) else [values]
    axes = known[name].shape
    rows = [1] if known[name].has_rows else []
    fixed = max(1, math.prod(axis for axis in axes if axis != -1))
    return {
        "name": name,
        "datatype": known[name].datatype,
        "shape": [*rows, *(len(values) // fixed if axis == -1 else axis for axis in axes)],
        "data": values,
    }


def _flat(tensor: Tensor) -> object:
    """A scalar for one element, else a list."""
    values = to_array(tensor).ravel().tolist()
    values = [v.decode(errors="replace") for v in values] if tensor.datatype == "BYTES" else values
    return values[0] if len(values) == 1 else values


_API = Api(name="generate", about="Triton's flat objects.", serves=every_model)
_EXAMPLES = {"text": {"text_input": "wikipedia.org"}, "ids": {"ids": [19, 26, 33, 1]}}
_EVENT = '{"model_name":"dga-lstm","model_version":"1","probabilities":[0.9995,0.0005]}'

ENDPOINTS = (
    Endpoint(
        method="POST",
        paths=with_version(V2_MODEL, "/generate"),
        handler=generate,
        api=_API,
        body=GenerateRequest,
        examples=_EXAMPLES,
        answer=GenerateAnswer,
        headers=TRUNCATED_HEADER,
        runs_model=True,
        takes_sequences=True,
    ),
    Endpoint(
        method="POST",
        paths=with_version(V2_MODEL, "/generate_stream"),
        handler=generate_stream,
        api=_API,
        body=GenerateRequest,
        examples=_EXAMPLES,
        # OpenAPI 3.1 has no schema for a stream of events.
        answer_media={"text/event-stream": {"example": f"data: {_EVENT}\n\n"}},
        headers=TRUNCATED_HEADER,
        runs_model=True,
        takes_sequences=True,
    ),
)
