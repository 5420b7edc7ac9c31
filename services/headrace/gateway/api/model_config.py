"""Triton's model configuration."""

from typing import Any, NotRequired, TypedDict

from headrace.edge.exchange import Response
from headrace.gateway.api.answers import Count, json_response
from headrace.gateway.api.context import Call
from headrace.gateway.api.endpoint import V2_MODEL, Endpoint, with_version
from headrace.gateway.api.metadata import METADATA, listed_inputs
from headrace.gateway.api.versions import version_of
from headrace_models.spec import BACKENDS, InputSpec, ModelSpec, OutputSpec

__all__ = ["ENDPOINTS"]


class _TensorConfig(TypedDict):
    name: str
    data_type: str
    dims: list[int]


class InputConfig(_TensorConfig):
    optional: bool


class OutputConfig(_TensorConfig):
    label_filename: str


class InstanceGroup(TypedDict):
    name: str
    count: Count
    kind: str


class DynamicBatching(TypedDict):
    preferred_batch_size: list[Count]
    max_queue_delay_microseconds: Count


class OldestBatching(DynamicBatching):
    max_candidate_sequences: Count


class StateConfig(TypedDict):
    input_name: str
    output_name: str
    data_type: str
    dims: list[int]


class SequenceBatching(TypedDict):
    max_sequence_idle_microseconds: Count
    oldest: OldestBatching
    state: list[StateConfig]


class Scheduling(TypedDict):
    dynamic_batching: NotRequired[DynamicBatching]
    sequence_batching: NotRequired[SequenceBatching]


class ResponseCacheConfig(TypedDict):
    enable: bool


class TransactionPolicy(TypedDict):
    decoupled: bool


class ModelConfig(Scheduling):
    name: str
    platform: str
    backend: str
    version_policy: dict[str, dict[str, int]]
    max_batch_size: Count
    input: list[InputConfig]
    output: list[OutputConfig]
    instance_group: list[InstanceGroup]
    response_cache: ResponseCacheConfig
    model_transaction_policy: TransactionPolicy
    parameters: dict[str, Any]


async def model_config(call: Call) -> Response:
    """The members of Triton's ModelConfig that clients read; shapes are without the row axis here.

    Those of a model whose requests run one at a time have all axes, and its `max_batch_size` is 0.
    """
    version = version_of(call)
    spec = version.spec
    document: ModelConfig = {
        "name": spec.name,
        "platform": BACKENDS[version.backend].triton_platform,
        "backend": BACKENDS[version.backend].triton_backend,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": spec.batching.max_rows if spec.is_batched else 0,
        "input": [{**_tensor_config(spec, i), "optional": False} for i in listed_inputs(spec)],
        "output": [
            {**_tensor_config(spec, o), "label_filename": o.labels or ""} for o in spec.outputs
        ],
        "instance_group": [{"name": spec.name, "count": len(version.clients), "kind": "KIND_AUTO"}],
        **_scheduling(spec),
        "response_cache": {"enable": call.context.cache.holds(spec.name)},
        "model_transaction_policy": {"decoupled": False},
        "parameters": {},
    }
    return json_response(document)


def _scheduling(spec: ModelSpec) -> Scheduling:
    """The batching of requests.

    Triton's clients take a model with `sequence_batching` for one that needs sequences.
    """
    batching = DynamicBatching(preferred_batch_size=[], max_queue_delay_microseconds=0)
    if not spec.state:
        return {"dynamic_batching": batching} if spec.is_batched else {}
    inputs = {i.name: _tensor_config(spec, i) for i in spec.inputs}
    sequences: SequenceBatching = {
        "max_sequence_idle_microseconds": round(spec.sequence.max_idle_s * 1e6),
        "oldest": {"max_candidate_sequences": spec.sequence.max_open, **batching},
        "state": [
            {
                "input_name": pair.input,
                "output_name": pair.output,
                "data_type": inputs[pair.input]["data_type"],
                "dims": inputs[pair.input]["dims"],
            }
            for pair in spec.state
        ],
    }
    return {"sequence_batching": sequences}


def _tensor_config(spec: ModelSpec, tensor: InputSpec | OutputSpec) -> _TensorConfig:
    kind = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    return {
        "name": tensor.name,
        "data_type": f"TYPE_{kind}",
        "dims": list(tensor.shape if spec.is_batched else tensor.whole_shape),
    }


ENDPOINTS = (
    Endpoint(
        method="GET",
        paths=with_version(V2_MODEL, "/config"),
        handler=model_config,
        api=METADATA,
        answer=ModelConfig,
    ),
)
