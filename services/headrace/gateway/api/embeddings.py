"""OpenAI's embeddings: texts or token ids in, one vector for each out."""

import base64
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, NotRequired, TypedDict

import numpy as np
from pydantic import Field

from headrace.edge.bodies import StrictBody
from headrace.edge.exchange import Response
from headrace.errors import BadRequest
from headrace.gateway.api.answers import (
    Base64,
    Count,
    Finite,
    Truncated,
    Written,
    answer_headers,
    json_response,
)
from headrace.gateway.api.context import Call
from headrace.gateway.api.endpoint import TRUNCATED_HEADER, Api, Endpoint
from headrace.gateway.api.run_request import run_all
from headrace.gateway.api.small_bodies import (
    MAX_ITEMS,
    Text,
    Texts,
    raw_tensor,
    read_json,
    rows_of,
)
from headrace.gateway.api.versions import find
from headrace.gateway.json.writing import rows_in_pieces
from headrace.gateway.routing.version import Version
from headrace.inference.request import Answer
from headrace.inference.tensor import Array, Tensor, from_array
from headrace_models.spec import ModelSpec, RawSpec, TokenInputs

__all__ = ["ENDPOINTS", "EmbeddingsBody", "embeddings"]

TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, lt=1 << 31)]],
    Field(fail_fast=True, min_length=1, max_length=8192),
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
        """The requests to run, by their path in the body.

        All texts are one request; each list of token ids is one by itself, since their lengths
        differ.
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


class Embedding(TypedDict):
    object: Literal["embedding"]
    index: Count
    embedding: Base64 | Written[list[Finite]]


class Usage(TypedDict):
    prompt_tokens: Count
    total_tokens: Count


class EmbeddingsAnswer(TypedDict):
    object: Literal["list"]
    data: Written[list[Embedding]]
    model: str
    usage: Usage
    truncated: NotRequired[Truncated]


async def embed(call: Call) -> Response:
    """OpenAI's embeddings: a text, texts, a list of token ids, or lists of them; one vector for
    each.

    Errors have OpenAI's shape at this endpoint.
    """
    offload = call.context.offload
    body = await offload(len(call.body), read_json, EmbeddingsBody, call.body)
    version = find(call, body.model)
    spec, raw = version.spec, version.spec.raw
    tokens = raw.tokens if raw else None
    if spec.task != "embed" or raw is None or tokens is None:
        raise BadRequest("model: expected a model that embeds text, found one that does not")
    output = spec.outputs[0]
    if body.dimensions not in (None, output.shape[-1]):
        raise BadRequest(f"dimensions: expected {output.shape[-1]}, found {body.dimensions}")
    requests = await offload(len(call.body), _requests, version, body, raw, tokens)
    answers = await run_all(call, version, requests, [output.name])
    size = sum(len(answer.outputs[0].data) for answer in answers)
    return await offload(size, _response, body, spec, requests, answers)


def _requests(
    version: Version, body: EmbeddingsBody, raw: RawSpec, tokens: TokenInputs
) -> list[list[Tensor]]:
    requests = body.tensors(raw, tokens)
    for where, tensors in requests.items():
        version.codec.check(tensors, where)
    return list(requests.values())


def _token_tensors(tokens: TokenInputs, ids: list[int], where: str) -> list[Tensor]:
    """One row of token ids that the caller made, with a mask that hides none of them."""
    if len(ids) > tokens.max_tokens:
        raise BadRequest(
            f"{where}: expected at most {tokens.max_tokens} token ids, found {len(ids)}"
        )
    return [
        from_array(tokens.ids, np.array([ids], np.int64)),
        from_array(tokens.mask, np.ones((1, len(ids)), np.int64)),
    ]


def _response(
    body: EmbeddingsBody,
    spec: ModelSpec,
    requests: Sequence[Sequence[Tensor]],
    answers: Sequence[Answer],
) -> Response:
    pairs = list(zip(answers, requests, strict=True))
    vectors = np.concatenate([rows_of(answer, inputs[0].rows) for answer, inputs in pairs])
    tokens = sum(answer.tokens or inputs[0].shape[-1] for answer, inputs in pairs)
    document = embeddings(vectors, tokens, body, spec)
    first = answers[0]  # the only one, where texts were given
    if first.truncated:
        document["truncated"] = list(first.truncated)
    return json_response(document, *answer_headers(first))


def embeddings(
    vectors: Array, tokens: int, body: EmbeddingsBody, spec: ModelSpec
) -> EmbeddingsAnswer:
    """OpenAI's answer: one vector `[d]` a text, in order, and the tokens that were read."""
    data: Iterator[Embedding] = (
        {"object": "embedding", "index": i, "embedding": _vector(vector, body.encoding_format)}
        for i, vector in enumerate(vectors)
    )
    return EmbeddingsAnswer(
        object="list",
        data=rows_in_pieces(data, vectors.shape[1]),
        model=spec.name,
        usage=Usage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _vector(vector: Array, encoding: str) -> str | Array:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector


def _embeds(spec: ModelSpec) -> bool:
    return spec.task == "embed"


ENDPOINTS = (
    Endpoint(
        method="POST",
        paths=("/v1/embeddings",),
        handler=embed,
        api=Api(name="embeddings", about="OpenAI's embeddings.", serves=_embeds),
        body=EmbeddingsBody,
        examples={
            "text": {"model": "minilm-l6", "input": "a sentence"},
            "texts": {
                "model": "minilm-l6",
                "input": ["a sentence", "another"],
                "encoding_format": "base64",
            },
            "token_ids": {"model": "minilm-l6", "input": [101, 1037, 6251, 102]},
        },
        answer=EmbeddingsAnswer,
        headers=TRUNCATED_HEADER,
        errors="openai",
        runs_model=True,
    ),
)
