"""The Open Inference Protocol's routes: health, metadata, configuration, statistics, and inference itself."""

import asyncio

from headrace import __version__
from headrace.edge.exchange import Exchange, Response
from headrace.errors import HeadraceError, NotReady, ShuttingDown
from headrace.gateway.api.context import (
    Context,
    answer_headers,
    ask_as,
    json_response,
    version_for,
    version_of,
    visible,
)
from headrace.gateway.routing.version import Version
from headrace.gateway.wire.compression import deflate, inflate, wanted_encoding
from headrace.inference.statistics import Statistics, merge, statistics_document
from headrace_models.repository import version_order
from headrace_models.spec import BACKENDS, InputSpec, ModelSpec, OutputSpec

__all__ = [
    "alive",
    "all_statistics",
    "infer",
    "live",
    "model_config",
    "model_metadata",
    "model_ready",
    "model_statistics",
    "models",
    "ready",
    "server_metadata",
]

# What this port does; the admin port names its own.
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "generate",
    "logging",
    "model_configuration",
    "parameters",
    "schedule_policy",
    "sequence",
    "sequence(string_id)",
    "statistics",
    "trace",
)
_STATISTICS_TIMEOUT_S = 2.0


async def server_metadata(_: Context, __: Exchange, ___: bytes) -> Response:
    """The server's name, its version, and the extensions of the protocol that this port has."""
    return json_response({"name": "headrace", "version": __version__, "extensions": EXTENSIONS})


async def alive(_: Context, __: Exchange, ___: bytes) -> Response:
    """KServe's v1 liveness, at the root as its client asks for it."""
    return json_response({"status": "alive"})


async def live(_: Context, __: Exchange, ___: bytes) -> Response:
    """Whether this process should be kept."""
    return json_response({"live": True})


async def ready(at: Context, _: Exchange, __: bytes) -> Response:
    """Whether every model that is not in trouble can answer now, shown by a recent inference; 503 if not."""
    if at.admission.is_ending:
        raise ShuttingDown("the gateway is shutting down", retry_after_s=1)
    if not at.router.is_ready:
        raise NotReady("not every model can answer now", retry_after_s=1)
    return json_response({"ready": True})


async def model_ready(at: Context, exchange: Exchange, _: bytes) -> Response:
    """Whether the model can answer now, and does not fail again and again; 503 if not."""
    version = version_of(at, exchange)
    if not version.is_sound:
        raise version.not_ready()
    return json_response({"name": version.spec.name, "ready": True})


async def model_metadata(at: Context, exchange: Exchange, _: bytes) -> Response:
    """The model's versions, inputs and outputs; -1 is an axis of any length, the first one that of rows.

    Of a model that reads text the input is the text; the tensors that come of it may be sent instead. States, which are
    kept here or may be sent, are no inputs: the configuration names them.
    """
    version = version_of(at, exchange)
    spec = version.spec
    document = {
        "name": spec.name,
        "versions": sorted(at.router.models()[spec.name], key=version_order),
        "platform": BACKENDS[version.backend].triton_platform,
        "inputs": [_tensor_metadata(i) for i in _listed(spec)],
        "outputs": [_tensor_metadata(o) for o in spec.outputs],
    }
    return json_response(document)


def _listed(spec: ModelSpec) -> list[InputSpec]:
    """The inputs that suffice for a request and that a client without the model's vocabulary can make.

    Triton's clients send all that are listed: never the states, which a sequence's step may not have.
    """
    if spec.raw and spec.raw.needs_vocabulary:
        return [InputSpec(name=spec.raw.input, datatype="BYTES", shape=(1,))]
    return [i for i in spec.inputs if i.name in spec.required_inputs]


def _tensor_metadata(tensor: InputSpec | OutputSpec) -> dict[str, object]:
    """A tensor's metadata; its shape has the row axis, which the spec leaves out."""
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.whole_shape)}


async def model_config(at: Context, exchange: Exchange, _: bytes) -> Response:
    """The members of Triton's ModelConfig that clients read; shapes are without the row axis here.

    Those of a model whose requests run one at a time have all axes, and its `max_batch_size` is 0.
    """
    version = version_of(at, exchange)
    spec = version.spec
    document = {
        "name": spec.name,
        "platform": BACKENDS[version.backend].triton_platform,
        "backend": BACKENDS[version.backend].triton_backend,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": spec.batching.max_rows if spec.is_batched else 0,
        "input": [{**_tensor_config(spec, i), "optional": False} for i in _listed(spec)],
        "output": [
            {**_tensor_config(spec, o), "label_filename": o.labels or ""} for o in spec.outputs
        ],
        "instance_group": [
            {"name": spec.name, "count": len(version.replicas), "kind": "KIND_AUTO"}
        ],
        **_scheduling(spec),
        "response_cache": {"enable": at.cache.holds(spec.name)},
        "model_transaction_policy": {"decoupled": False},
        "parameters": {},
    }
    return json_response(document)


def _scheduling(spec: ModelSpec) -> dict[str, object]:
    """How requests become batches: Triton's clients take a model that has sequences for one that needs them."""
    when = {"preferred_batch_size": [], "max_queue_delay_microseconds": 0}
    if not spec.state:
        return {"dynamic_batching": when} if spec.is_batched else {}
    kept = {i.name: _tensor_config(spec, i) for i in spec.inputs}
    state = [
        {
            "input_name": pair.input,
            "output_name": pair.output,
            "data_type": kept[pair.input]["data_type"],
            "dims": kept[pair.input]["dims"],
        }
        for pair in spec.state
    ]
    sequences = {
        "max_sequence_idle_microseconds": round(spec.sequence.max_idle_s * 1e6),
        "oldest": {"max_candidate_sequences": spec.sequence.max_open, **when},
        "state": state,
    }
    return {"sequence_batching": sequences}


def _tensor_config(spec: ModelSpec, tensor: InputSpec | OutputSpec) -> dict[str, object]:
    kind = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    return {
        "name": tensor.name,
        "data_type": f"TYPE_{kind}",
        "dims": list(tensor.shape if spec.is_batched else tensor.whole_shape),
    }


async def all_statistics(at: Context, exchange: Exchange, _: bytes) -> Response:
    """What every model did since it was loaded."""
    models = at.router.models()
    versions = [version for name in visible(at, exchange) for version in models[name].values()]
    return json_response({"model_stats": await asyncio.gather(*map(_statistics, versions))})


async def model_statistics(at: Context, exchange: Exchange, _: bytes) -> Response:
    """What the model did since it was loaded."""
    version = version_of(at, exchange)
    return json_response({"model_stats": [await _statistics(version)]})


async def _statistics(version: Version) -> dict[str, object]:
    """The sum over the version's replicas; one that does not tell in time is left out of it."""
    told = await asyncio.gather(
        *(client.statistics(_STATISTICS_TIMEOUT_S) for client in version.replicas.values()),
        return_exceptions=True,
    )
    for failure in told:
        if isinstance(failure, BaseException) and not isinstance(failure, HeadraceError):
            raise failure
    sums = merge([one for one in told if isinstance(one, Statistics)])
    return statistics_document(version.spec.name, version.spec.version, sums)


async def models(at: Context, exchange: Exchange, _: bytes) -> Response:
    """The names of the models that the caller may use."""
    return json_response({"models": visible(at, exchange)})


async def infer(at: Context, exchange: Exchange, body: bytes) -> Response:
    """Tensors in, tensors out: the Open Inference Protocol, in JSON or with the binary tensor data extension.

    Inference-Header-Content-Length is the length of the JSON part where binary tensors follow it; 0 says that the whole
    body is the bytes of the model's only input, one row if it has rows. Of a model with preprocessing the photo or text
    itself may be sent, as a BYTES input.
    """
    version = version_of(at, exchange)
    encoding = (exchange.header(b"content-encoding") or "identity").lower()
    if encoding == "identity":
        return await _infer(at, exchange, version, body)
    body = await at.offload(len(body) << 10, inflate, body, encoding, at.max_inflated_bytes)
    with at.inflated.held(len(body)):
        return await _infer(at, exchange, version, body)


async def _infer(at: Context, exchange: Exchange, version: Version, body: bytes) -> Response:
    codec = version.codec
    header_length = exchange.header(b"inference-header-content-length")
    asked = await at.offload(
        codec.reading_cost(body, header_length), codec.decode, body, header_length
    )
    if (home := version_for(at, exchange, version, asked)) is not version:
        version, codec = home, home.codec
        asked = await at.offload(
            codec.reading_cost(body, header_length), codec.decode, body, header_length
        )
    version, answer = await ask_as(at, exchange, version, asked)
    codec = version.codec
    encoded, json_bytes = await at.offload(
        codec.writing_cost(answer, asked), codec.encode, answer, asked
    )
    headers = answer_headers(answer)
    if encoding := wanted_encoding(exchange.header(b"accept-encoding")):
        encoded = await at.offload(len(encoded), deflate, encoded, encoding)
        headers.append((b"content-encoding", encoding.encode()))
    if not json_bytes:
        return Response(200, encoded, headers=headers)
    headers.append((b"inference-header-content-length", b"%d" % json_bytes))
    return Response(200, encoded, b"application/octet-stream", headers)
