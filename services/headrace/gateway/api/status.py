"""Models as TensorFlow Serving, KServe's v1 and OpenAI show them, at paths that the three share."""

from typing import Any, Literal, TypedDict

from headrace.edge.exchange import Response
from headrace.gateway.api.answers import json_response
from headrace.gateway.api.context import Call
from headrace.gateway.api.endpoint import V1_MODEL, Endpoint, with_version
from headrace.gateway.api.metadata import METADATA
from headrace.gateway.api.versions import names_version, version_of, visible
from headrace.gateway.routing.version import Version
from headrace_models.repository import version_order
from headrace_models.spec import InputSpec, OutputSpec

__all__ = ["ENDPOINTS"]

_DTYPES = {
    "BYTES": "DT_STRING",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
    "FP16": "DT_HALF",
    "BF16": "DT_BFLOAT16",
}


class OpenAIModel(TypedDict):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(TypedDict):
    object: Literal["list"]
    data: list[OpenAIModel]
    models: list[str]


class ErrorStatus(TypedDict):
    error_code: Literal["OK", "UNAVAILABLE"]
    error_message: str


class VersionStatus(TypedDict):
    version: str
    state: Literal["AVAILABLE", "LOADING"]
    status: ErrorStatus


class ModelStatus(OpenAIModel):
    name: str
    ready: bool
    model_version_status: list[VersionStatus]


class ModelVersionName(TypedDict):
    name: str
    signature_name: str
    version: str


class SignatureDef(TypedDict):
    signature_def: dict[str, Any]


class Signatures(TypedDict):
    model_spec: ModelVersionName
    metadata: SignatureDef


async def models(call: Call) -> Response:
    """Both shapes that clients know: OpenAI's `data` and KServe's `models`."""
    names = visible(call)
    data = [_openai_model(name) for name in names]
    return json_response(Models(object="list", data=data, models=names))


async def model_status(call: Call) -> Response:
    """TensorFlow's status of each version, with KServe's `name` and `ready` and OpenAI's model."""
    version = version_of(call)
    name = version.spec.name
    all_versions = call.context.router.models()[name].values()
    found = [version] if names_version(call) else list(all_versions)
    found.sort(key=lambda v: version_order(v.spec.version), reverse=True)
    status: ModelStatus = {
        **_openai_model(name),
        "name": name,
        "ready": any(v.is_sound for v in found),
        "model_version_status": [_version_status(v) for v in found],
    }
    return json_response(status)


async def signatures(call: Call) -> Response:
    """TensorFlow's metadata: the one signature of the model."""
    spec = version_of(call).spec
    signature = {
        "inputs": {i.name: _tensor_info(i) for i in spec.inputs},
        "outputs": {o.name: _tensor_info(o) for o in spec.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    document: Signatures = {
        "model_spec": {"name": spec.name, "signature_name": "", "version": spec.version},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }
    return json_response(document)


def _openai_model(name: str) -> OpenAIModel:
    return OpenAIModel(id=name, object="model", created=0, owned_by="headrace")


def _version_status(version: Version) -> VersionStatus:
    return {
        "version": version.spec.version,
        "state": "AVAILABLE" if version.is_sound else "LOADING",
        "status": {
            "error_code": "UNAVAILABLE" if version.trouble else "OK",
            "error_message": version.trouble,
        },
    }


def _tensor_info(tensor: InputSpec | OutputSpec) -> dict[str, object]:
    dims = [{"size": str(axis), "name": ""} for axis in tensor.whole_shape]
    return {
        "dtype": _DTYPES.get(tensor.datatype, f"DT_{tensor.datatype}"),
        "tensor_shape": {"dim": dims, "unknown_rank": False},
        "name": tensor.name,
    }


_LABELLED = V1_MODEL + "/labels/{label}"
_BY_NAME, _BY_VERSION = with_version(V1_MODEL)

ENDPOINTS = (
    Endpoint(
        method="GET",
        paths=("/v1/models",),
        handler=models,
        api=METADATA,
        answer=Models,
        errors="shared",
    ),
    Endpoint(
        method="GET",
        paths=(_BY_NAME,),
        handler=model_status,
        api=METADATA,
        answer=ModelStatus,
        errors="shared",
    ),
    Endpoint(
        method="GET",
        paths=(_BY_VERSION, _LABELLED),
        handler=model_status,
        api=METADATA,
        answer=ModelStatus,
    ),
    Endpoint(
        method="GET",
        paths=(*with_version(V1_MODEL, "/metadata"), _LABELLED + "/metadata"),
        handler=signatures,
        api=METADATA,
        answer=Signatures,
    ),
)
