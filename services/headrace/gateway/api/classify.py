"""The other endpoints: classify and embeddings. Each makes the same tensor request and reads its answer in its own way."""

import base64
import re
from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar
from urllib.parse import parse_qsl

import numpy as np
import orjson
from pydantic import Field

from headrace.edge.bodies import StrictBody, printable, read_body
from headrace.edge.exchange import Exchange
from headrace.errors import AnswerTooLarge, BadJson, BadRequest, InferenceFailed, UnsupportedMedia
from headrace.gateway.json.document import LARGE_BYTES
from headrace.gateway.json.scan import scan
from headrace.gateway.json.writing import rows_in_pieces
from headrace.gateway.wire.base64_text import from_base64
from headrace.gateway.wire.classification import MAX_CLASSES
from headrace.gateway.wire.multipart import file_and_field
from headrace.inference.request import Answer
from headrace.inference.tensor import Array, Tensor, from_array, pack_bytes, to_array
from headrace_models.postprocess.classes import best_classes, softmax
from headrace_models.spec import (
    UPLOAD_TYPES,
    ModelSpec,
    OutputSpec,
    RawSpec,
    TokenInputs,
)

__all__ = [
    "FORM_TYPE",
    "MAX_TOP_K",
    "ClassifyBody",
    "EmbeddingsBody",
    "a_row_each",
    "classify_body",
    "classify_results",
    "embeddings",
    "raw_tensor",
    "read_json",
]

FORM_TYPE = "multipart/form-data"
MAX_ITEMS = 1024
DEFAULT_TOP_K, MAX_TOP_K = 5, 1000
_NUMBER = re.compile(r"[1-9][0-9]{0,2}|1000")
# What a large body may have: as many elements as the embeddings endpoint's usual most of token ids, and texts to spare.
MAX_ELEMENTS = 300_000
MAX_TEXTS = 4 * MAX_ITEMS
# A text has at most a million characters, of at most six bytes each as JSON may write them; photos may be larger.
MAX_TEXT_BYTES = 6_000_000

B = TypeVar("B", bound=StrictBody)

Text = Annotated[str, Field(max_length=1_000_000)]
# The first wrong element is enough: to collect them all, for each kind of list, took seconds.
TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, lt=1 << 31)]],
    Field(fail_fast=True, min_length=1, max_length=8192),
]
Texts = Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=MAX_ITEMS)]


class Base64(StrictBody):
    b64: str


class ClassifyBody(StrictBody):
    """`input` is a text, `{"b64": ...}`, which is the base64 of a JPEG, PNG or WebP, or a list of either."""

    input: (
        Text
        | Base64
        | Texts
        | Annotated[list[Base64], Field(fail_fast=True, min_length=1, max_length=MAX_ITEMS)]
    )
    top_k: int = Field(default=DEFAULT_TOP_K, ge=1, le=MAX_TOP_K)

    @property
    def is_binary(self) -> bool:
        return isinstance(self.input[0] if isinstance(self.input, list) else self.input, Base64)

    def items(self) -> list[bytes]:
        inputs = self.input if isinstance(self.input, list) else [self.input]
        return [
            item.encode() if isinstance(item, str) else from_base64(item.b64, f"input[{n}].b64")
            for n, item in enumerate(inputs)
        ]


class EmbeddingsBody(StrictBody):
    """The OpenAI embeddings request; `base64` is little-endian FP32."""

    model: str
    input: (
        Text
        | Texts
        | TokenIds
        | Annotated[list[TokenIds], Field(fail_fast=True, min_length=1, max_length=MAX_ITEMS)]
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None

    def tensors(self, raw: RawSpec, tokens: TokenInputs) -> dict[str, list[Tensor]]:
        """What to ask, by its place in the body: all texts at once, or each list of token ids by itself, since their
        lengths differ.
        """
        if isinstance(self.input, str):
            return {"input": [raw_tensor(raw, [self.input.encode()])]}
        if isinstance(self.input[0], str):
            return {"input": [raw_tensor(raw, [str(text).encode() for text in self.input])]}
        if isinstance(self.input[0], int):
            return {"input": _token_tensors(tokens, self.input, "input")}
        return {
            f"input[{n}]": _token_tensors(tokens, ids, f"input[{n}]")
            for n, ids in enumerate(self.input)
        }


def classify_body(exchange: Exchange, body: bytes, raw: RawSpec) -> tuple[list[bytes], int]:
    """The photos or texts of a body, and how many classes are wanted. Raises BadRequest or UnsupportedMedia.

    `raw` is what the model takes. A photo may be the whole body, or the part of a form that is called `file`; how many
    classes may be said in JSON, in the form or in the query.
    """
    kind = exchange.content_type
    if kind in UPLOAD_TYPES or kind == FORM_TYPE:
        if not raw.is_binary:
            raise UnsupportedMedia(
                f"Content-Type: expected application/json, as the model takes {raw.takes}, found {kind}"
            )
        if kind != FORM_TYPE:
            return [body], _top_k(exchange, None)
        photo, top_k = file_and_field(exchange.header(b"content-type") or "", body, "top_k")
        return [photo], _top_k(exchange, top_k)
    parsed = read_json(ClassifyBody, body, None if raw.is_binary else MAX_TEXT_BYTES)
    if parsed.is_binary != raw.is_binary:
        expected = (
            f'{{"b64": ...}} with a {raw.takes}, or several'
            if raw.is_binary
            else "a text or a list of texts"
        )
        raise BadRequest(f"input: expected {expected}, as the model takes it")
    return parsed.items(), _top_k(
        exchange, str(parsed.top_k) if "top_k" in parsed.model_fields_set else None
    )


def _top_k(exchange: Exchange, in_body: str | None) -> int:
    """How many classes the query or the body wishes for. Raises BadRequest for another number, or if both say it."""
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


def read_json(kind: type[B], body: bytes, max_text_bytes: int | None = MAX_TEXT_BYTES) -> B:
    """A body by its pydantic model. Raises BadJson, or BadRequest with the first field that is wrong.

    The reader holds the interpreter, and copies what it refuses; so what it would refuse is looked for before.
    """
    if len(body) > LARGE_BYTES:
        structure = scan(body)
        if len(structure.offsets) > MAX_ELEMENTS:
            raise BadJson(f"body: expected at most {MAX_ELEMENTS} elements")
        if len(structure.quotes) > 2 * MAX_TEXTS:
            raise BadJson(f"body: expected at most {MAX_TEXTS} texts")
        if max_text_bytes and np.diff(structure.quotes).max(initial=0) > max_text_bytes:
            raise BadJson(f"body: expected texts of at most {max_text_bytes} bytes")
    return read_body(kind, body)


def raw_tensor(raw: RawSpec, items: Sequence[bytes]) -> Tensor:
    """Photos or texts as the BYTES `[n]` input that the replica preprocesses."""
    return Tensor(raw.input, "BYTES", (len(items),), pack_bytes(items))


def _token_tensors(tokens: TokenInputs, ids: list[int], place: str) -> list[Tensor]:
    """One row of token ids that the caller made, all of them to be looked at."""
    if len(ids) > tokens.max_tokens:
        raise BadRequest(
            f"{place}: expected at most {tokens.max_tokens} token ids, found {len(ids)}"
        )
    return [
        from_array(tokens.ids, np.array([ids], np.int64)),
        from_array(tokens.mask, np.ones((1, len(ids)), np.int64)),
    ]


def classify_results(
    answer: Answer, output: OutputSpec, items: int, labels: Sequence[str], top_k: int
) -> orjson.Fragment:
    """A JSON list of the best `top_k` classes of each item, best first. Raises AnswerTooLarge beyond MAX_CLASSES.

    A score that is not finite is null; the order is that of the output's own values, NaN last.
    """
    values = a_row_each(answer, items)
    scores = softmax(values) if output.activation == "softmax" else values
    if len(scores) * min(top_k, scores.shape[1]) > MAX_CLASSES:
        raise AnswerTooLarge(
            f"top_k: expected at most {MAX_CLASSES} classes in all, found {len(scores)} x {top_k}"
        )
    best = best_classes(values, top_k)
    results = (
        [{"label": labels[i], "index": i, "score": float(row[i])} for i in order.tolist()]
        for row, order in zip(scores, best, strict=True)
    )
    return rows_in_pieces(results, 3 * top_k)


def a_row_each(answer: Answer, items: int) -> Array:
    """An answer's first output as `[items, *]`, whatever axes a model without rows gave it. Raises InferenceFailed."""
    values = to_array(answer.outputs[0])
    if values.size % items:
        raise InferenceFailed(
            f'output "{answer.outputs[0].name}" is no row for each of what was asked'
        )
    return values.reshape(items, values.size // items)


def embeddings(
    vectors: Array, tokens: int, asked: EmbeddingsBody, spec: ModelSpec
) -> dict[str, object]:
    """OpenAI's answer: one vector `[d]` a text, in order, and the tokens that were read."""
    data = (
        {"object": "embedding", "index": i, "embedding": _vector(vector, asked.encoding_format)}
        for i, vector in enumerate(vectors)
    )
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {
        "object": "list",
        "data": rows_in_pieces(data, vectors.shape[1]),
        "model": spec.name,
        "usage": usage,
    }


def _vector(vector: Array, encoding: str) -> str | Array:
    return (
        base64.b64encode(vector.astype("<f4").tobytes()).decode()
        if encoding == "base64"
        else vector
    )
