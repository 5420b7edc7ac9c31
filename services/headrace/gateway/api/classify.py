"""Classify: photos or texts in, the best classes of each out."""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, NotRequired, TypedDict
from urllib.parse import parse_qsl

import orjson
from pydantic import Field

from headrace.edge.bodies import StrictBody, printable
from headrace.edge.exchange import Exchange, Response
from headrace.errors import AnswerTooLarge, BadRequest, UnsupportedMedia
from headrace.gateway.api.answers import (
    Count,
    Finite,
    Truncated,
    Written,
    answer_headers,
    json_response,
)
from headrace.gateway.api.context import Call
from headrace.gateway.api.endpoint import (
    BINARY,
    JSON_TYPE,
    JSON_TYPES,
    TRUNCATED_HEADER,
    V1_MODEL,
    Api,
    Endpoint,
    Schema,
    parameter,
)
from headrace.gateway.api.run_request import run
from headrace.gateway.api.small_bodies import (
    MAX_ITEMS,
    MAX_TEXT_BYTES,
    Text,
    Texts,
    raw_tensor,
    read_json,
    rows_of,
)
from headrace.gateway.api.versions import version_of
from headrace.gateway.json.writing import rows_in_pieces
from headrace.gateway.routing.version import Version
from headrace.gateway.wire.base64_text import from_base64
from headrace.gateway.wire.classification import MAX_CLASSES
from headrace.gateway.wire.multipart import file_and_field
from headrace.inference.request import Answer
from headrace.inference.tensor import Tensor
from headrace_models.postprocess.classes import best_classes, softmax
from headrace_models.spec import UPLOAD_TYPES, ModelSpec, OutputSpec, RawSpec

__all__ = ["ENDPOINTS", "MAX_TOP_K", "ClassifyBody", "classify_results"]

FORM_TYPE = "multipart/form-data"
DEFAULT_TOP_K, MAX_TOP_K = 5, 1000
_NUMBER = re.compile(r"[1-9][0-9]{0,2}|1000")
# What writing one class of a row costs, in bytes of other work.
_CLASS_BYTES = 64


class Base64Item(StrictBody):
    b64: str


class ClassifyBody(StrictBody):
    """`input` is a text, `{"b64": ...}`, which is the base64 of a JPEG, PNG or WebP, or a list of
    either.
    """

    input: (
        Text
        | Base64Item
        | Texts
        | Annotated[list[Base64Item], Field(fail_fast=True, min_length=1, max_length=MAX_ITEMS)]
    )
    top_k: int = Field(default=DEFAULT_TOP_K, ge=1, le=MAX_TOP_K)

    @property
    def is_binary(self) -> bool:
        return isinstance(self.input[0] if isinstance(self.input, list) else self.input, Base64Item)

    def items(self) -> list[bytes]:
        inputs = self.input if isinstance(self.input, list) else [self.input]
        return [
            item.encode() if isinstance(item, str) else from_base64(item.b64, f"input[{n}].b64")
            for n, item in enumerate(inputs)
        ]


class ClassScore(TypedDict):
    label: str
    index: Count
    score: Finite


class ClassifyAnswer(TypedDict):
    model: str
    version: str
    results: Written[list[list[ClassScore]]]
    truncated: NotRequired[Truncated]


async def classify(call: Call) -> Response:
    """The best classes of photos or texts, best first.

    A photo is the body itself, the part `file` of a form, or `{"b64": ...}` in JSON; texts are in
    JSON.
    """
    version = version_of(call)
    output, raw = version.spec.classes, version.spec.raw
    if output is None or raw is None:
        raise BadRequest(
            "the model has no labelled classes for photos or texts; use /v2/models/{model}/infer"
        )
    offload = call.context.offload
    items, top_k = await offload(len(call.body), _read, call.exchange, call.body, raw)
    answer = await run(call, version, [items], [output.name])
    cost = len(answer.outputs[0].data) + _CLASS_BYTES * items.rows * top_k
    return await offload(cost, _response, version, answer, output, items.rows, top_k)


def _read(exchange: Exchange, body: bytes, raw: RawSpec) -> tuple[Tensor, int]:
    """The photos or texts of a body for a model that takes `raw`, and how many classes are wanted.

    A photo may be the whole body, or the part of a form that is called `file`; the number of
    classes may stand in the JSON, in the form or in the query. Raises BadRequest or
    UnsupportedMedia.
    """
    kind = exchange.content_type
    if kind in raw.media_types:
        return raw_tensor(raw, [body]), _top_k(exchange, None)
    if kind == FORM_TYPE and raw.is_binary:
        photo, top_k = file_and_field(exchange.header(b"content-type") or "", body, "top_k")
        return raw_tensor(raw, [photo]), _top_k(exchange, top_k)
    if kind not in JSON_TYPES:
        raise UnsupportedMedia(
            f"Content-Type: expected {' or '.join((JSON_TYPE, *raw.media_types))}, "
            f"as the model takes {raw.takes}, found {kind}"
        )
    parsed = read_json(ClassifyBody, body, None if raw.is_binary else MAX_TEXT_BYTES)
    if parsed.is_binary != raw.is_binary:
        expected = "a text or a list of texts"
        if raw.is_binary:
            expected = f'{{"b64": ...}} with a {raw.takes}, or several'
        raise BadRequest(f"input: expected {expected}, as the model takes it")
    items = parsed.items()
    in_body = str(parsed.top_k) if "top_k" in parsed.model_fields_set else None
    return raw_tensor(raw, items), _top_k(exchange, in_body)


def _top_k(exchange: Exchange, in_body: str | None) -> int:
    """The `top_k` of the query or the body. Raises BadRequest if it is wrong, or in both."""
    given = [
        value
        for name, value in parse_qsl(exchange.query.decode("latin-1"), True)
        if name == "top_k"
    ]
    given += [] if in_body is None else [in_body]
    if len(given) > 1:
        raise BadRequest(
            f"top_k: expected once, in the query or in the body, found {len(given)} of them"
        )
    if given and not _NUMBER.fullmatch(given[0]):
        raise BadRequest(f"top_k: expected 1 to {MAX_TOP_K}, found {printable(given[0])}")
    return int(given[0]) if given else DEFAULT_TOP_K


def _response(
    version: Version, answer: Answer, output: OutputSpec, items: int, top_k: int
) -> Response:
    results = classify_results(answer, output, items, version.labels, top_k)
    document = ClassifyAnswer(
        model=version.spec.name, version=version.spec.version, results=results
    )
    if answer.truncated:
        document["truncated"] = list(answer.truncated)
    return json_response(document, *answer_headers(answer))


def classify_results(
    answer: Answer, output: OutputSpec, items: int, labels: Sequence[str], top_k: int
) -> orjson.Fragment:
    """A JSON list of the best `top_k` classes of each item, best first.

    A score that is not finite is null; the order is that of the output's own values, NaN last.
    Raises AnswerTooLarge beyond MAX_CLASSES.
    """
    values = rows_of(answer, items)
    scores = softmax(values) if output.activation == "softmax" else values
    if len(scores) * min(top_k, scores.shape[1]) > MAX_CLASSES:
        raise AnswerTooLarge(
            f"top_k: expected at most {MAX_CLASSES} classes in all, found {len(scores)} x {top_k}"
        )
    best = best_classes(values, top_k)
    results: Iterator[list[ClassScore]] = (
        [{"label": labels[i], "index": i, "score": float(row[i])} for i in order.tolist()]
        for row, order in zip(scores, best, strict=True)
    )
    return rows_in_pieces(results, 3 * top_k)


def _has_classes(spec: ModelSpec) -> bool:
    return bool(spec.classes and spec.raw)


_TOP_K: Schema = {"type": "integer", "minimum": 1, "maximum": MAX_TOP_K}
_FORM: Schema = {
    "schema": {
        "type": "object",
        "properties": {"file": BINARY["schema"], "top_k": _TOP_K},
        "required": ["file"],
    }
}

ENDPOINTS = (
    Endpoint(
        method="POST",
        paths=(V1_MODEL + ":classify",),
        handler=classify,
        api=Api(name="classify", about="Photos or texts in, labels out.", serves=_has_classes),
        reads=(*JSON_TYPES, *UPLOAD_TYPES, FORM_TYPE),
        body=ClassifyBody,
        body_media={**dict.fromkeys(UPLOAD_TYPES, BINARY), FORM_TYPE: _FORM},
        examples={
            "text": {"input": "wikipedia.org"},
            "texts": {"input": ["wikipedia.org", "xkqjzvbwpt.com"], "top_k": 1},
        },
        parameters=(
            parameter(
                "top_k",
                "query",
                _TOP_K,
                "the most classes of each item, if the body does not say it",
            ),
        ),
        answer=ClassifyAnswer,
        headers=TRUNCATED_HEADER,
        runs_model=True,
    ),
)
