"""The Open Inference Protocol's metadata: of the server, its models, and one model's tensors."""

from typing import TypedDict

from headrace import __version__
from headrace.edge.exchange import Response
from headrace.gateway.api.answers import json_response
from headrace.gateway.api.context import Call
from headrace.gateway.api.endpoint import V2_MODEL, Api, Endpoint, every_model, with_version
from headrace.gateway.api.versions import version_of, visible
from headrace_models.repository import version_order
from headrace_models.spec import (
    BACKENDS,
    InputSpec,
    ModelSpec,
    OutputSpec,
)
from headrace_models.spec.tensors import Datatype

__all__ = ["ENDPOINTS", "METADATA", "listed_inputs"]

# The extensions of this port; the admin port lists its own.
EXTENSIONS = [
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
]


class Server(TypedDict):
    name: str
    version: str
    extensions: list[str]


class ModelNames(TypedDict):
    models: list[str]


class TensorMetadata(TypedDict):
    name: str
    datatype: Datatype
    shape: list[int]


class ModelMetadata(TypedDict):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


async def server_metadata(call: Call) -> Response:
    """The server's name, its version, and the extensions of the protocol that this port has."""
    return json_response(Server(name="headrace", version=__version__, extensions=EXTENSIONS))


async def models(call: Call) -> Response:
    """The names of the models that the caller may use."""
    return json_response(ModelNames(models=visible(call)))


async def model_metadata(call: Call) -> Response:
    """The model's versions, inputs and outputs; -1 is an axis of any length, the first that of
    rows.

    The input of a model that reads text is the text; its tensors may be sent instead. States, which
    are kept here or may be sent, are not listed as inputs: the configuration names them.
    """
    version = version_of(call)
    spec = version.spec
    document = ModelMetadata(
        name=spec.name,
        versions=sorted(call.context.router.models()[spec.name], key=version_order),
        platform=BACKENDS[version.backend].triton_platform,
        inputs=[_tensor_metadata(i) for i in listed_inputs(spec)],
        outputs=[_tensor_metadata(o) for o in spec.outputs],
    )
    return json_response(document)


def listed_inputs(spec: ModelSpec) -> list[InputSpec]:
    """The inputs that suffice, and that a client without the model's vocabulary can make.

    Triton's clients send all that are listed: so no states, which a step of a sequence must not
    have.
    """
    if spec.raw and spec.raw.needs_vocabulary:
        return [InputSpec(name=spec.raw.input, datatype="BYTES", shape=(1,))]
    return [i for i in spec.inputs if i.name in spec.required_inputs]


def _tensor_metadata(tensor: InputSpec | OutputSpec) -> TensorMetadata:
    """A tensor's metadata; its shape has the row axis, which the spec leaves out."""
    return TensorMetadata(
        name=tensor.name, datatype=tensor.datatype, shape=list(tensor.whole_shape)
    )


METADATA = Api(
    name="metadata",
    about="What is served, and what it did.",
    is_always_answered=True,
    serves=every_model,
)

ENDPOINTS = (
    Endpoint(
        method="GET",
        paths=("/v2", "/v2/"),
        handler=server_metadata,
        api=METADATA,
        answer=Server,
    ),
    Endpoint(method="GET", paths=("/v2/models",), handler=models, api=METADATA, answer=ModelNames),
    Endpoint(
        method="GET",
        paths=with_version(V2_MODEL),
        handler=model_metadata,
        api=METADATA,
        answer=ModelMetadata,
    ),
)
