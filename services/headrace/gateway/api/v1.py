"""The other endpoints: TensorFlow's predict and status, classify, OpenAI's embeddings. All make the same tensor request."""

from collections.abc import Sequence

import numpy as np

from headrace.edge.exchange import Exchange, Response
from headrace.errors import BadRequest
from headrace.gateway.api import classify as classify_bodies
from headrace.gateway.api.context import (
    Context,
    answer_headers,
    ask,
    ask_all,
    find,
    json_response,
    truncated,
    version_of,
    visible,
)
from headrace.gateway.json.document import parse
from headrace.gateway.routing.version import Version
from headrace.gateway.wire.infer import InferBody
from headrace.gateway.wire.predict import infer_document, predictions
from headrace.inference.request import Answer
from headrace.inference.tensor import Tensor
from headrace_models.repository import version_order
from headrace_models.spec import InputSpec, ModelSpec, OutputSpec, RawSpec, TokenInputs

__all__ = ["classify", "embed", "model_status", "models", "predict", "signatures"]

# What writing one class of a row costs, in bytes of other work.
_ENTRY_BYTES = 64


async def models(at: Context, exchange: Exchange, _: bytes) -> Response:
    """Both shapes that clients know: OpenAI's `data` and KServe's `models`."""
    names = visible(at, exchange)
    return json_response(
        {"object": "list", "data": [_as_openai_has_it(name) for name in names], "models": names}
    )


def _as_openai_has_it(model: str) -> dict[str, object]:
    return {"id": model, "object": "model", "created": 0, "owned_by": "headrace"}


async def model_status(at: Context, exchange: Exchange, _: bytes) -> Response:
    """TensorFlow's status of each version, KServe's `name` and `ready` and OpenAI's model beside it."""
    version = version_of(at, exchange)
    is_named = exchange.params.keys() & {"version", "label"}
    found = [version] if is_named else list(at.router.models()[version.spec.name].values())
    states = [
        {
            "version": v.spec.version,
            "state": "AVAILABLE" if v.is_sound else "LOADING",
            "status": {
                "error_code": "UNAVAILABLE" if v.trouble else "OK",
                "error_message": v.trouble,
            },
        }
        for v in sorted(found, key=lambda v: version_order(v.spec.version), reverse=True)
    ]
    ready = any(v.is_sound for v in found)
    name = version.spec.name
    status = {"name": name, "ready": ready, "model_version_status": states}
    return json_response(_as_openai_has_it(name) | status)


async def signatures(at: Context, exchange: Exchange, _: bytes) -> Response:
    """TensorFlow's metadata: the one signature of the model."""
    spec = version_of(at, exchange).spec
    signature = {
        "inputs": {i.name: _tensor_info(i) for i in spec.inputs},
        "outputs": {o.name: _tensor_info(o) for o in spec.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    document = {
        "model_spec": {"name": spec.name, "signature_name": "", "version": spec.version},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }
    return json_response(document)


def _tensor_info(tensor: InputSpec | OutputSpec) -> dict[str, object]:
    dims = [{"size": str(axis), "name": ""} for axis in tensor.whole_shape]
    kinds = {
        "BYTES": "DT_STRING",
        "FP32": "DT_FLOAT",
        "FP64": "DT_DOUBLE",
        "FP16": "DT_HALF",
        "BF16": "DT_BFLOAT16",
    }
    kind = kinds.get(tensor.datatype, f"DT_{tensor.datatype}")
    return {
        "dtype": kind,
        "tensor_shape": {"dim": dims, "unknown_rank": False},
        "name": tensor.name,
    }


async def predict(at: Context, exchange: Exchange, body: bytes) -> Response:
    """TensorFlow GatewayHandle's predict: `instances` by row give `predictions`, `inputs` by column give `outputs`.

    With one input its items are values, with several objects by the inputs' names; `{"b64": ...}` is a binary value.
    """
    version = version_of(at, exchange)
    is_rows, asked = await at.offload(len(body), _read_predict, version, body)
    answer = await ask(at, exchange, version, asked.inputs, asked.outputs)
    size = sum(len(tensor.data) for tensor in answer.outputs)
    response = await at.offload(
        size, lambda: json_response(predictions(answer, is_rows=is_rows) | truncated(answer))
    )
    return response._replace(headers=answer_headers(answer))


def _read_predict(version: Version, body: bytes) -> tuple[bool, InferBody]:
    document = parse(body)
    as_infer, tail = infer_document(document, version.spec)
    return document.get("instances") is not None, version.codec.read(as_infer, memoryview(tail))


async def classify(at: Context, exchange: Exchange, body: bytes) -> Response:
    """The best classes of photos or texts, best first.

    A photo is the body itself, the part `file` of a form, or `{"b64": ...}` in JSON; texts are in JSON.
    """
    version = version_of(at, exchange)
    output, raw = version.spec.classes, version.spec.raw
    if output is None or raw is None:
        raise BadRequest(
            "the model has no labelled classes for photos or texts; use /v2/models/{model}/infer"
        )
    photos_or_texts, top_k = await at.offload(len(body), _read_classify, exchange, body, raw)
    answer = await ask(at, exchange, version, [photos_or_texts], [output.name])
    size = len(answer.outputs[0].data) + _ENTRY_BYTES * photos_or_texts.rows * top_k
    return await at.offload(size, _classified, version, answer, output, photos_or_texts.rows, top_k)


def _read_classify(exchange: Exchange, body: bytes, raw: RawSpec) -> tuple[Tensor, int]:
    items, top_k = classify_bodies.classify_body(exchange, body, raw)
    return classify_bodies.raw_tensor(raw, items), top_k


def _classified(
    version: Version, answer: Answer, output: OutputSpec, items: int, top_k: int
) -> Response:
    results = classify_bodies.classify_results(answer, output, items, version.labels, top_k)
    document = {"model": version.spec.name, "version": version.spec.version, "results": results}
    return json_response(document | truncated(answer), *answer_headers(answer))


async def embed(at: Context, exchange: Exchange, body: bytes) -> Response:
    """OpenAI's embeddings: a text, texts, a list of token ids, or lists of them; one vector for each.

    Errors have OpenAI's shape at this endpoint.
    """
    asked = await at.offload(
        len(body), classify_bodies.read_json, classify_bodies.EmbeddingsBody, body
    )
    version = find(at, exchange, asked.model, None)
    spec, raw = version.spec, version.spec.raw
    tokens = raw.tokens if raw else None
    if spec.task != "embed" or raw is None or tokens is None:
        raise BadRequest("model: expected a model that embeds text, found one that does not")
    output = spec.outputs[0]
    if asked.dimensions not in (None, output.shape[-1]):
        raise BadRequest(f"dimensions: expected {output.shape[-1]}, found {asked.dimensions}")
    requests = await at.offload(len(body), _embed_requests, version, asked, raw, tokens)
    answers = await ask_all(at, exchange, version, requests, [output.name])
    count = sum(
        a.tokens or request[0].shape[-1] for a, request in zip(answers, requests, strict=True)
    )
    return await at.offload(
        sum(len(a.outputs[0].data) for a in answers),
        _embedded,
        asked,
        spec,
        requests,
        answers,
        count,
    )


def _embed_requests(
    version: Version, asked: classify_bodies.EmbeddingsBody, raw: RawSpec, tokens: TokenInputs
) -> list[list[Tensor]]:
    requests = asked.tensors(raw, tokens)
    for place, tensors in requests.items():
        version.codec.check(tensors, place)
    return list(requests.values())


def _embedded(
    asked: classify_bodies.EmbeddingsBody,
    spec: ModelSpec,
    requests: Sequence[Sequence[Tensor]],
    answers: Sequence[Answer],
    tokens: int,
) -> Response:
    vectors = np.concatenate(
        [
            classify_bodies.a_row_each(answer, request[0].rows)
            for answer, request in zip(answers, requests, strict=True)
        ]
    )
    document = classify_bodies.embeddings(vectors, tokens, asked, spec)
    first = answers[0]  # the only one, where texts were asked
    return json_response(document | truncated(first), *answer_headers(first))
