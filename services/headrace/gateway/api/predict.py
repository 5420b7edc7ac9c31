"""TensorFlow Serving's predict: rows or columns in, rows or columns out."""

from typing import Any, NotRequired, TypedDict

from pydantic import BaseModel, Field, RootModel

from headrace.edge.exchange import Response
from headrace.gateway.api.answers import Truncated, Written, answer_headers, json_response
from headrace.gateway.api.context import Call
from headrace.gateway.api.endpoint import (
    TRUNCATED_HEADER,
    V1_MODEL,
    Api,
    Endpoint,
    every_model,
)
from headrace.gateway.api.run_request import run
from headrace.gateway.api.versions import version_of
from headrace.gateway.json.document import parse
from headrace.gateway.routing.version import Version
from headrace.gateway.wire.infer import InferBody
from headrace.gateway.wire.predict import infer_document, predictions
from headrace.inference.request import Answer

__all__ = ["ENDPOINTS"]


class Rows(BaseModel):
    instances: list[Any] = Field(min_length=1)


class Columns(BaseModel):
    inputs: list[Any] | dict[str, Any]


class PredictRequest(RootModel[Rows | Columns]):
    """A predict body. `wire.predict` reads it; this serves the document alone."""


class Predictions(TypedDict):
    predictions: Written[list[Any]]
    truncated: NotRequired[Truncated]


class Outputs(TypedDict):
    outputs: Written[list[Any] | dict[str, Any] | float | str]
    truncated: NotRequired[Truncated]


async def predict(call: Call) -> Response:
    """TensorFlow Serving's predict: `instances` (rows) give `predictions`, `inputs` (columns)
    `outputs`.

    The items are values if there is one input, else objects by the inputs' names; `{"b64": ...}` is
    a binary value.
    """
    version = version_of(call)
    offload = call.context.offload
    is_rows, body = await offload(len(call.body), _read, version, call.body)
    answer = await run(call, version, body.inputs, body.outputs)
    size = sum(len(tensor.data) for tensor in answer.outputs)
    return await offload(size, _response, answer, is_rows)


def _read(version: Version, body: bytes) -> tuple[bool, InferBody]:
    document = parse(body)
    as_infer, tail = infer_document(document, version.spec)
    return document.get("instances") is not None, version.codec.read(as_infer, memoryview(tail))


def _response(answer: Answer, is_rows: bool) -> Response:
    document = predictions(answer, is_rows=is_rows)
    if answer.truncated:
        document["truncated"] = answer.truncated
    return json_response(document, *answer_headers(answer))


_DOMAINS = ["wikipedia.org", "xkqjzvbwpt.com"]

ENDPOINTS = (
    Endpoint(
        method="POST",
        paths=(
            V1_MODEL + ":predict",
            V1_MODEL + "/versions/{version}:predict",
            V1_MODEL + "/labels/{label}:predict",
        ),
        handler=predict,
        api=Api(name="predict", about="TensorFlow Serving's rows and columns.", serves=every_model),
        body=PredictRequest,
        examples={
            "rows": {"instances": _DOMAINS},
            "columns": {"inputs": {"text": _DOMAINS}},
            "ids": {"instances": [[19, 26]]},
        },
        answer=Predictions | Outputs,
        headers=TRUNCATED_HEADER,
        runs_model=True,
    ),
)
