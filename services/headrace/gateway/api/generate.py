"""Triton's generate extension: a flat JSON object in, a flat one out, by inputs' and outputs' names.

Source: Triton's protocol/extension_generate. Values are scalars or lists; `text_input` is the model's raw text where it
has one. The models here answer once, so the stream is one event.
"""

import math
from collections.abc import Mapping

from headrace.edge.bodies import printable
from headrace.edge.exchange import Exchange, Response
from headrace.errors import BadRequest
from headrace.gateway.api.context import (
    Context,
    answer_headers,
    ask_as,
    json_response,
    truncated,
    version_for,
    version_of,
)
from headrace.gateway.json.document import parameters_of, parse, text
from headrace.gateway.json.elements import plain
from headrace.gateway.json.long_arrays import LongArray
from headrace.gateway.routing.version import Version
from headrace.gateway.wire.infer import InferBody
from headrace.inference.tensor import Tensor, to_array
from headrace_models.spec import ModelSpec

__all__ = ["generate", "generate_stream"]

_TEXT, _OTHERS = "text_input", frozenset({"id", "parameters"})


async def generate(at: Context, exchange: Exchange, body: bytes) -> Response:
    """Triton's generate: a flat object of inputs by name gives a flat object of outputs by name.

    Values are scalars or lists; `text_input` is the text of a model that reads text. One row a request.
    """
    version = version_of(at, exchange)
    asked = await at.offload(len(body), _read, version, body)
    if (home := version_for(at, exchange, version, asked)) is not version:
        version, asked = home, await at.offload(len(body), _read, home, body)
    version, answer = await ask_as(at, exchange, version, asked)
    document: dict[str, object] = {
        "model_name": version.spec.name,
        "model_version": version.spec.version,
    }
    if asked.id:
        document["id"] = asked.id
    document |= truncated(answer)
    document |= {tensor.name: _flat(tensor) for tensor in answer.outputs}
    return json_response(document, *answer_headers(answer))


async def generate_stream(at: Context, exchange: Exchange, body: bytes) -> Response:
    """Generate, with its answer as server-sent events. The models here answer once: the stream is one event."""
    response = await generate(at, exchange, body)
    event = b"data: " + response.body + b"\n\n"
    return response._replace(body=event, content_type=b"text/event-stream; charset=utf-8")


def _read(version: Version, body: bytes) -> InferBody:
    document = parse(body)
    given = {
        name: value for name, value in document.items() if name not in _OTHERS and value is not None
    }
    inputs = [_input(version.spec, name, value) for name, value in given.items()]
    infer: dict[str, object] = {
        "inputs": inputs,
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
