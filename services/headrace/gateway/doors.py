"""The other doors: classify and embeddings. Each makes the same tensor request and reads its answer in its own way."""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.edge.exchange import Exchange
from headrace.errors import BadRequest, UnsupportedMedia
from headrace.tensor import Answer, Array, Tensor, pack_bytes, to_array
from headrace_models.spec import ImageSpec, ModelSpec, OutputSpec, PreprocessSpec

__all__ = [
    "ClassifyBody",
    "EmbeddingsBody",
    "classify_body",
    "classify_results",
    "embeddings",
    "raw_tensor",
    "read_json",
]

_PHOTO_TYPES = ("image/jpeg", "image/png")
# The form type is what `curl -d` sends when it is told nothing else.
_JSON_TYPES = ("application/json", "", "application/x-www-form-urlencoded")
MAX_ITEMS = 1024

B = TypeVar("B", bound=BaseModel)

Text = Annotated[str, Field(max_length=1_000_000)]


class Base64(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    b64: str


class ClassifyBody(BaseModel):
    """`input` is a text, a list of texts, or `{"b64": ...}`: the base64 of a JPEG or PNG."""

    model_config = ConfigDict(extra="forbid", strict=True)
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_ITEMS)] | Base64
    top_k: int = Field(default=5, ge=1, le=1000)

    def items(self) -> list[bytes]:
        if isinstance(self.input, Base64):
            return [_from_base64(self.input.b64)]
        return [text.encode() for text in ([self.input] if isinstance(self.input, str) else self.input)]


class EmbeddingsBody(BaseModel):
    """The OpenAI embeddings request; `base64` is little-endian FP32."""

    model_config = ConfigDict(extra="forbid", strict=True)
    model: str
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_ITEMS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


def classify_body(exchange: Exchange, body: bytes, raw: PreprocessSpec | None) -> ClassifyBody | bytes:
    """A photo's bytes, or the JSON form. Raises BadRequest or UnsupportedMedia; `raw` is what the model takes."""
    if raw is None:
        raise BadRequest("the model takes tensors only; use /v2/models/{model}/infer")
    if exchange.content_type in _PHOTO_TYPES:
        if not isinstance(raw, ImageSpec):
            raise UnsupportedMedia("Content-Type: expected application/json, as the model takes text, found an image")
        return body
    if exchange.content_type not in _JSON_TYPES:
        raise UnsupportedMedia(f"Content-Type: expected application/json or one of {', '.join(_PHOTO_TYPES)}")
    parsed = read_json(ClassifyBody, body)
    if isinstance(parsed.input, Base64) != isinstance(raw, ImageSpec):
        expected = 'an object {"b64": ...} with a photo' if isinstance(raw, ImageSpec) else "a text or a list of texts"
        raise BadRequest(f"input: expected {expected}, as the model takes it")
    return parsed


def read_json(kind: type[B], body: bytes) -> B:
    """A body by its pydantic model. Raises BadRequest with the first field that is wrong, and what was expected."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(step) for step in first["loc"]) or "body"
        raise BadRequest(f"{field}: {first['msg']}") from None


def raw_tensor(raw: PreprocessSpec, items: Sequence[bytes]) -> Tensor:
    """Photos or texts as the BYTES `[n]` input that the replica preprocesses."""
    return Tensor(raw.input, "BYTES", (len(items),), pack_bytes(items))


def classify_results(answer: Answer, output: OutputSpec, labels: Sequence[str], top_k: int) -> list[list[object]]:
    """The best `top_k` classes of each row, best first."""
    scores = _scores(to_array(answer.outputs[0]), output)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    return [
        [{"label": labels[i], "index": i, "score": float(row[i])} for i in order.tolist()]
        for row, order in zip(scores, best, strict=True)
    ]


def _scores(values: Array, output: OutputSpec) -> Array:
    if output.activation == "none":
        return values
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    scores: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return scores


def embeddings(answer: Answer, asked: EmbeddingsBody, spec: ModelSpec) -> dict[str, object]:
    """OpenAI's answer: one vector a text, in order, and the tokens that were read."""
    vectors = to_array(answer.outputs[0])
    data = [
        {"object": "embedding", "index": i, "embedding": _vector(vector, asked.encoding_format)}
        for i, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": answer.tokens, "total_tokens": answer.tokens}
    return {"object": "list", "data": data, "model": spec.name, "usage": usage}


def _vector(vector: Array, encoding: str) -> str | Array:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode() if encoding == "base64" else vector


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("input.b64: expected base64") from None
