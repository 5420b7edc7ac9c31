"""The OpenAPI document: every route of the data port, its bodies, its answers, and its errors from the one table."""

from collections.abc import Mapping
from functools import cache
from re import findall

from headrace import __version__
from headrace.edge.problems import OPENAI_PATH, STATUS
from headrace.edge.routes import Route
from headrace.errors import HeadraceError
from headrace.gateway.doors import ClassifyBody, EmbeddingsBody
from headrace.gateway.routes import PUBLIC_PATHS, ROUTES, Handler
from headrace_models.spec import DTYPES

__all__ = ["document"]

Schema = dict[str, object]
_REF = "#/components/schemas/"
_NAME = "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


def _ref(name: str) -> Schema:
    return {"$ref": _REF + name}


def _object(required: list[str], /, **properties: Schema) -> Schema:
    return {"type": "object", "required": required, "properties": properties}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_STRING: Schema = {"type": "string"}
_INTEGER: Schema = {"type": "integer"}
_ANY: Schema = {"type": "object", "additionalProperties": True}
_PARAMETERS: Schema = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_SHAPE = _list({"type": "integer", "minimum": 0})
_DATATYPE: Schema = {"type": "string", "enum": [*DTYPES, "BYTES"]}
_DATA: Schema = {"type": "array", "items": {}, "description": "flat, or nested as the shape says"}
_METADATA = _object(["name", "datatype", "shape"], name=_STRING, datatype=_DATATYPE, shape=_list(_INTEGER))
_DURATION = _object(["count", "ns"], count=_INTEGER, ns=_INTEGER)
_TENSOR_IN = _object(
    ["name", "shape", "datatype"], name=_STRING, shape=_SHAPE, datatype=_DATATYPE, parameters=_PARAMETERS, data=_DATA
)
_SCHEMAS: dict[str, Schema] = {
    "Error": _object(
        ["error", "code", "request_id"],
        error={"type": "string", "maxLength": 200},
        code={"type": "string", "enum": []},
        request_id=_STRING,
    ),
    "OpenAIError": _object(
        ["error"], error=_object(["message", "type", "code"], message=_STRING, type=_STRING, code=_STRING)
    ),
    "InferRequest": _object(
        ["inputs"],
        id={"type": "string", "maxLength": 1024},
        parameters=_PARAMETERS,
        inputs={"type": "array", "minItems": 1, "maxItems": 64, "items": _TENSOR_IN},
        outputs={
            "type": "array",
            "minItems": 1,
            "maxItems": 64,
            "items": _object(["name"], name=_STRING, parameters=_PARAMETERS),
        },
    ),
    "InferAnswer": _object(
        ["model_name", "outputs"],
        model_name=_STRING,
        model_version=_STRING,
        id=_STRING,
        outputs=_list(
            _object(["name", "shape", "datatype"], name=_STRING, shape=_SHAPE, datatype=_DATATYPE, data=_DATA)
        ),
    ),
    "GenerateRequest": {**_object([], text_input=_STRING, id=_STRING, parameters=_PARAMETERS), "minProperties": 1},
    "GenerateAnswer": _object(["model_name"], model_name=_STRING, model_version=_STRING),
    "PredictRequest": {
        "oneOf": [
            _object(["instances"], instances=_list({})),
            _object(["inputs"], inputs={"type": ["array", "object"]}),
        ]
    },
    "PredictAnswer": {"oneOf": [_object(["predictions"], predictions=_list({})), _object(["outputs"], outputs={})]},
    "ClassifyAnswer": _object(
        ["model", "version", "results"],
        model=_STRING,
        version=_STRING,
        results=_list(
            _list(_object(["label", "index", "score"], label=_STRING, index=_INTEGER, score={"type": "number"}))
        ),
    ),
    "EmbeddingsAnswer": _object(
        ["object", "data", "model", "usage"],
        object=_STRING,
        data=_list(_object(["object", "index", "embedding"], object=_STRING, index=_INTEGER, embedding={})),
        model=_STRING,
        usage=_object(["prompt_tokens", "total_tokens"], prompt_tokens=_INTEGER, total_tokens=_INTEGER),
    ),
    "ModelMetadata": _object(
        ["name", "platform", "inputs", "outputs"],
        name=_STRING,
        versions=_list(_STRING),
        platform=_STRING,
        inputs=_list(_METADATA),
        outputs=_list(_METADATA),
    ),
    "Statistics": _object(
        ["model_stats"],
        model_stats=_list(
            _object(
                ["name", "version", "inference_count", "execution_count", "inference_stats", "batch_stats"],
                name=_STRING,
                version=_STRING,
                last_inference=_INTEGER,
                inference_count=_INTEGER,
                execution_count=_INTEGER,
                inference_stats={"type": "object", "additionalProperties": _DURATION},
                batch_stats=_list(_object(["batch_size"], batch_size=_INTEGER)),
            )
        ),
    ),
    "Object": _ANY,
}
# Handler -> the schemas of its body and of its answer.
_BODIES = {
    "infer": "InferRequest",
    "generate": "GenerateRequest",
    "generate_stream": "GenerateRequest",
    "predict": "PredictRequest",
    "classify": "ClassifyBody",
    "embed": "EmbeddingsBody",
}
_ANSWERS = {
    "infer": "InferAnswer",
    "generate": "GenerateAnswer",
    "predict": "PredictAnswer",
    "classify": "ClassifyAnswer",
    "embed": "EmbeddingsAnswer",
    "model_metadata": "ModelMetadata",
    "model_statistics": "Statistics",
    "all_statistics": "Statistics",
}
_BINARY: Schema = {"type": "string", "format": "binary"}
_OTHER_BODIES: dict[str, dict[str, Schema]] = {
    "infer": {"application/octet-stream": _BINARY},
    "classify": {
        "image/jpeg": _BINARY,
        "image/png": _BINARY,
        "multipart/form-data": _object(["file"], file=_BINARY),
    },
}
_OTHER_ANSWERS: dict[str, dict[str, Schema]] = {
    "infer": {"application/octet-stream": _BINARY},
    "generate_stream": {"text/event-stream": _STRING},
    "docs": {"text/html": _STRING},
    "asset": {"text/javascript": _STRING, "text/css": _STRING},
}


@cache
def document() -> Mapping[str, object]:
    """The whole document; built once, from the table of routes."""
    paths: dict[str, dict[str, object]] = {}
    for route in ROUTES:
        operation = _operation(route)
        paths.setdefault(route.template, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "headrace",
            "version": __version__,
            "description": "CNN, LSTM and Transformer models by the Open Inference Protocol and other doors.",
        },
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _schemas() -> dict[str, Schema]:
    schemas = dict(_SCHEMAS)
    error = {**schemas["Error"]}
    codes = sorted({kind.code for kind in _family(HeadraceError)})
    error["properties"] = {"error": _STRING, "code": {"type": "string", "enum": codes}, "request_id": _STRING}
    schemas["Error"] = error
    for model in (ClassifyBody, EmbeddingsBody):
        schema = model.model_json_schema(ref_template=_REF + "{model}")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    return schemas


def _family(root: type[HeadraceError]) -> list[type[HeadraceError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in _family(child))]


def _operation(route: Route[Handler]) -> dict[str, object]:
    name = route.handler.__name__
    operation: dict[str, object] = {
        "summary": name.replace("_", " "),
        "description": (route.handler.__doc__ or "").strip(),
        "tags": [route.door],
        "operationId": route.method.lower() + "".join(c if c.isalnum() else "_" for c in route.template),
        "parameters": [_parameter(param) for param in findall(r"\{(\w+)\}", route.template)],
        "responses": _responses(name, route.template),
        "security": [{}] if route.template in PUBLIC_PATHS else [{}, {"key": []}],
    }
    if name in _BODIES:
        content = {"application/json": {"schema": _ref(_BODIES[name])}}
        content |= {kind: {"schema": schema} for kind, schema in _OTHER_BODIES.get(name, {}).items()}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameter(name: str) -> dict[str, object]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": _NAME}}


def _responses(name: str, template: str) -> dict[str, object]:
    answers = {"application/json": {"schema": _ref(_ANSWERS.get(name, "Object"))}}
    others = {kind: {"schema": schema} for kind, schema in _OTHER_ANSWERS.get(name, {}).items()}
    if name in _OTHER_ANSWERS and name != "infer":
        answers = others
    shape = "OpenAIError" if template == OPENAI_PATH else "Error"
    problem = {"description": "an error", "content": {"application/json": {"schema": _ref(shape)}}}
    statuses = sorted({status for status in STATUS.values() if status != 499})
    return {
        "200": {"description": "the answer", "content": {**answers, **others}},
        **{str(status): problem for status in statuses},
    }
