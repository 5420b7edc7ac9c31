"""What each handler of the data port takes and gives, as media types of the OpenAPI document, with examples."""

from collections.abc import Mapping
from typing import NamedTuple

from headrace.gateway.api import audio as stream
from headrace.gateway.api import docs as pages
from headrace.gateway.api import generate, oip, repository, v1
from headrace.gateway.api import settings as settings_routes
from headrace.gateway.api.endpoints import Handler
from headrace.gateway.api.openapi_schemas import REF, TOP_K, Schema, record

__all__ = ["ASKS_A_MODEL", "EXAMPLE_PARAMS", "MEDIA", "TAKES_SEQUENCES", "Content", "Media"]

Content = dict[str, Schema]


class Media(NamedTuple):
    """The media types of what a handler reads and of what it answers, where it does, and the answer's headers."""

    body: Content
    answer: Content
    body_required: bool = True
    headers: Mapping[str, Schema] = {}


_BINARY: Schema = {"schema": {"type": "string", "format": "binary"}}
_TEXT: Schema = {"schema": {"type": "string"}}
# OpenAPI 3.1 has no schema for a stream of events.
_EVENTS: Schema = {
    "example": 'data: {"model_name":"dga-lstm","model_version":"1","probabilities":[0.9995,0.0005]}\n\n'
}
# Names that examples are right for: the zoo's.
EXAMPLE_PARAMS = {
    "model": "dga-lstm",
    "version": "1",
    "label": "stable",
    "asset": "swagger-ui.css",
    "region": "mine",
}
_DOMAINS = ["wikipedia.org", "xkqjzvbwpt.com"]
_DOMAINS_TENSOR = {"name": "text", "shape": [2], "datatype": "BYTES", "data": _DOMAINS}
_IDS_TENSOR = {"name": "ids", "shape": [1, 4], "datatype": "INT64", "data": [19, 26, 33, 1]}


def _json(name: str, /, **examples: object) -> Content:
    """JSON by the schema of this name."""
    content: Schema = {"schema": {"$ref": REF + name}}
    if examples:
        content["examples"] = {title: {"value": value} for title, value in examples.items()}
    return {"application/json": content}


def _answer(name: str) -> Media:
    return Media({}, _json(name))


_INFER = _json(
    "InferRequest",
    texts={"id": "42", "inputs": [_DOMAINS_TENSOR]},
    tensors={"inputs": [_IDS_TENSOR], "outputs": [{"name": "probabilities"}]},
    best_class={
        "inputs": [_DOMAINS_TENSOR],
        "outputs": [{"name": "probabilities", "parameters": {"classification": 1}}],
        "parameters": {"timeout": 5_000_000, "priority": 1},
    },
)
_GENERATE = _json(
    "GenerateRequest", text={"text_input": "wikipedia.org"}, ids={"ids": [19, 26, 33, 1]}
)
_PREDICT = _json(
    "PredictRequest",
    rows={"instances": _DOMAINS},
    columns={"inputs": {"text": _DOMAINS}},
    ids={"instances": [[19, 26]]},
)
_CLASSIFY = _json(
    "ClassifyBody", text={"input": "wikipedia.org"}, texts={"input": _DOMAINS, "top_k": 1}
)
_EMBED = _json(
    "EmbeddingsBody",
    text={"model": "minilm-l6", "input": "a sentence"},
    texts={"model": "minilm-l6", "input": ["a sentence", "another"], "encoding_format": "base64"},
    token_ids={"model": "minilm-l6", "input": [101, 1037, 6251, 102]},
)
_PHOTOS: Content = {
    "image/jpeg": _BINARY,
    "image/png": _BINARY,
    "image/webp": _BINARY,
    "multipart/form-data": {
        "schema": record("file", file={"type": "string", "format": "binary"}, top_k=TOP_K)
    },
}
_TIMING: Mapping[str, Schema] = {
    "Server-Timing": {
        "description": "where the time went, in milliseconds",
        "schema": {"type": "string"},
    }
}
_READ: Mapping[str, Schema] = {
    **_TIMING,
    "X-Truncated": {
        "description": "how many texts were longer than the model reads, so that their end was cut off",
        "schema": {"type": "integer", "minimum": 1},
    },
}
_INFER_HEADERS: Mapping[str, Schema] = {
    **_READ,
    "Inference-Header-Content-Length": {
        "description": "bytes of the JSON part, where binary tensors follow it",
        "schema": {"type": "integer", "minimum": 1},
    },
    "Content-Encoding": {
        "description": "where one was asked for",
        "schema": {"enum": ["gzip", "deflate"]},
    },
}

MEDIA: dict[Handler, Media] = {
    oip.infer: Media(
        {**_INFER, "application/octet-stream": _BINARY},
        {**_json("InferAnswer"), "application/octet-stream": _BINARY},
        headers=_INFER_HEADERS,
    ),
    generate.generate: Media(_GENERATE, _json("GenerateAnswer"), headers=_READ),
    generate.generate_stream: Media(_GENERATE, {"text/event-stream": _EVENTS}, headers=_READ),
    v1.predict: Media(_PREDICT, _json("PredictAnswer"), headers=_READ),
    v1.classify: Media({**_CLASSIFY, **_PHOTOS}, _json("ClassifyAnswer"), headers=_READ),
    stream.listen: Media(
        {"application/octet-stream": _BINARY, "audio/pcm": _BINARY, "audio/wav": _BINARY},
        _json("StreamAnswer"),
        body_required=False,
        headers=_TIMING,
    ),
    v1.embed: Media(_EMBED, _json("EmbeddingsAnswer"), headers=_READ),
    oip.alive: _answer("Alive"),
    oip.live: _answer("Live"),
    oip.ready: _answer("Ready"),
    oip.server_metadata: _answer("Server"),
    oip.models: _answer("ModelNames"),
    repository.index: Media(
        _json("IndexRequest", all={}, ready={"ready": True}), _json("Index"), body_required=False
    ),
    oip.model_metadata: _answer("ModelMetadata"),
    oip.model_ready: _answer("ModelReady"),
    oip.model_config: _answer("ModelConfig"),
    oip.model_statistics: _answer("Statistics"),
    oip.all_statistics: _answer("Statistics"),
    settings_routes.get_logging: _answer("LogSettings"),
    settings_routes.get_tracing: _answer("TraceSettings"),
    settings_routes.set_logging: Media(
        _json("LogChanges", verbose={"log_verbose_level": 1}, quiet={"log_verbose_level": 0}),
        _json("LogSettings"),
        body_required=False,
    ),
    settings_routes.set_tracing: Media(
        _json("TraceChanges", off={"trace_level": ["OFF"]}),
        _json("TraceSettings"),
        body_required=False,
    ),
    settings_routes.no_shared_memory: Media({}, {}),
    v1.models: _answer("Models"),
    v1.model_status: _answer("ModelStatus"),
    v1.signatures: _answer("Signatures"),
    pages.docs: Media({}, {"text/html": _TEXT}),
    pages.asset: Media({}, {"text/javascript": _TEXT, "text/css": _TEXT}),
    pages.openapi: _answer("Document"),
}
ASKS_A_MODEL = frozenset(
    handler for handler, media in MEDIA.items() if "Server-Timing" in media.headers
)
TAKES_SEQUENCES: frozenset[Handler] = frozenset(
    {oip.infer, generate.generate, generate.generate_stream, stream.listen}
)
