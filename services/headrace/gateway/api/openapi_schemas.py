"""The schemas of the OpenAPI document: every body and answer of the data port that is no error, by name."""

import orjson

from headrace.edge.management import tracing_document
from headrace.gateway.api.classify import MAX_TOP_K, ClassifyBody, EmbeddingsBody
from headrace_models.spec import DTYPES

__all__ = ["COUNT", "NUMBER", "REF", "STRING", "TOP_K", "Schema", "array", "record", "schemas"]

Schema = dict[str, object]
REF = "#/components/schemas/"


def record(required: str, /, **properties: Schema) -> Schema:
    """An object; `required` are names, by spaces."""
    schema: Schema = {"type": "object", "properties": properties}
    return {**schema, "required": required.split()} if required else schema


def array(items: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": items, **limits}


STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TOP_K: Schema = {"type": "integer", "minimum": 1, "maximum": MAX_TOP_K}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
ANYTHING: Schema = {}
_SCALAR: Schema = {"type": ["string", "number", "boolean", "null"]}
_FLOAT: Schema = {"type": ["number", "null"], "description": "null if it is not finite"}
_SCALARS: Schema = {"anyOf": [_SCALAR, array(_SCALAR)]}
_ID: Schema = {"type": "string", "maxLength": 1024, "pattern": r"^[^\u0000-\u001f\u007f]*$"}
_PARAMETERS: Schema = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
    "maxProperties": 64,
}
_SHAPE = array(COUNT)
_DATATYPE: Schema = {"type": "string", "enum": [*DTYPES, "BYTES"]}
_DATA: Schema = {
    "type": "array",
    "items": ANYTHING,
    "description": "flat, or nested as the shape says",
}
_METADATA = record("name datatype shape", name=STRING, datatype=_DATATYPE, shape=array(INTEGER))
_DURATION = record("count ns", count=COUNT, ns=COUNT)
_STAGES = dict.fromkeys(("compute_input", "compute_infer", "compute_output"), _DURATION)
_TENSOR_CONFIG = {"name": STRING, "data_type": STRING, "dims": array(INTEGER)}
_INFER_PARAMETERS: Schema = {
    **_PARAMETERS,
    "properties": {
        "timeout": {
            **COUNT,
            "maximum": 300_000_000,
            "description": "microseconds from receipt to answer",
        },
        "priority": {**COUNT, "maximum": 100, "description": "1 is the highest, 0 the default"},
        "binary_data_output": {**BOOLEAN, "description": "binary outputs, where none are listed"},
        "sequence_id": {"type": ["integer", "string"], "minimum": 0, "maxLength": 128},
        "sequence_start": BOOLEAN,
        "sequence_end": BOOLEAN,
    },
}
_INPUT = record(
    "name shape datatype",
    name=STRING,
    shape=_SHAPE,
    datatype=_DATATYPE,
    parameters={**_PARAMETERS, "properties": {"binary_data_size": COUNT}},
    data=_DATA,
)
_OUTPUT_PARAMETERS: Schema = {
    **_PARAMETERS,
    "properties": {"binary_data": BOOLEAN, "classification": {"type": "integer", "minimum": 1}},
}
_TRUNCATED: Schema = {
    **array(COUNT),
    "description": "the places of the texts whose end was cut off, if any was",
}
_SIGNATURE = record(
    "dtype tensor_shape name", dtype=STRING, tensor_shape={"type": "object"}, name=STRING
)
_OPENAI_MODEL: dict[str, Schema] = {
    "id": STRING,
    "object": {"const": "model"},
    "created": INTEGER,
    "owned_by": STRING,
}
_LOG_SETTINGS: dict[str, Schema] = {
    "log_file": STRING,
    "log_info": BOOLEAN,
    "log_warning": BOOLEAN,
    "log_error": BOOLEAN,
    "log_verbose_level": {**COUNT, "maximum": 100},
    "log_format": {"enum": ["default", "ISO8601"]},
}
_TRACE_SETTINGS: dict[str, Schema] = {
    "trace_level": array(STRING),
    "trace_rate": STRING,
    "trace_count": STRING,
    "log_frequency": STRING,
    "trace_file": STRING,
}


def _changes(settings: dict[str, Schema]) -> Schema:
    """Any of the settings; null leaves one as it is."""
    properties = {name: {"anyOf": [schema, {"type": "null"}]} for name, schema in settings.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


_SCHEMAS: dict[str, Schema] = {
    "Live": record("live", live=BOOLEAN),
    "IndexRequest": {
        "type": "object",
        "properties": {"ready": BOOLEAN},
        "additionalProperties": False,
    },
    "Index": array(
        record(
            "name version state reason",
            name=STRING,
            version=STRING,
            state={"enum": ["READY", "UNAVAILABLE"]},
            reason={**STRING, "description": "why it is not ready"},
        )
    ),
    "Ready": record("ready", ready=BOOLEAN),
    "ModelReady": record("name ready", name=STRING, ready=BOOLEAN),
    "Alive": record("status", status={"const": "alive"}),
    "Server": record(
        "name version extensions", name=STRING, version=STRING, extensions=array(STRING)
    ),
    "ModelNames": record("models", models=array(STRING)),
    "ModelMetadata": record(
        "name versions platform inputs outputs",
        name=STRING,
        versions=array(STRING),
        platform=STRING,
        inputs=array(_METADATA),
        outputs=array(_METADATA),
    ),
    "ModelConfig": record(
        "name platform backend max_batch_size input output",
        name=STRING,
        platform=STRING,
        backend=STRING,
        version_policy={"type": "object"},
        max_batch_size=COUNT,
        input=array(record("name data_type dims optional", **_TENSOR_CONFIG, optional=BOOLEAN)),
        output=array(
            record("name data_type dims label_filename", **_TENSOR_CONFIG, label_filename=STRING)
        ),
        instance_group=array(record("name count kind", name=STRING, count=COUNT, kind=STRING)),
        dynamic_batching={"type": "object"},
        sequence_batching={"type": "object"},
        response_cache=record("enable", enable=BOOLEAN),
        model_transaction_policy=record("decoupled", decoupled=BOOLEAN),
        parameters={"type": "object"},
    ),
    "Statistics": record(
        "model_stats",
        model_stats=array(
            record(
                "name version last_inference inference_count execution_count inference_stats batch_stats",
                name=STRING,
                version=STRING,
                last_inference={**COUNT, "description": "milliseconds since 1970"},
                inference_count={**COUNT, "description": "rows"},
                execution_count={**COUNT, "description": "batches"},
                inference_stats={"type": "object", "additionalProperties": _DURATION},
                batch_stats=array(record("batch_size", batch_size=COUNT, **_STAGES)),
                response_stats={"type": "object"},
                memory_usage=array({"type": "object"}),
            )
        ),
    ),
    "InferRequest": record(
        "inputs",
        id=_ID,
        parameters=_INFER_PARAMETERS,
        inputs=array(_INPUT, minItems=1, maxItems=64),
        outputs=array(record("name", name=STRING, parameters=_OUTPUT_PARAMETERS), maxItems=64),
    ),
    "InferAnswer": record(
        "model_name model_version outputs",
        model_name=STRING,
        model_version=STRING,
        id=STRING,
        parameters=record(
            "", truncated={**STRING, "description": "the places of the texts that were cut: 2,5"}
        ),
        outputs=array(
            record(
                "name shape datatype",
                name=STRING,
                shape=_SHAPE,
                datatype=_DATATYPE,
                data={
                    **array(_SCALAR),
                    "description": "flat; null for a number that is not finite",
                },
                parameters=record("binary_data_size", binary_data_size=COUNT),
            )
        ),
    ),
    "GenerateRequest": {
        **record("", text_input=STRING, id=_ID, parameters=_PARAMETERS),
        "additionalProperties": _SCALARS,
        "minProperties": 1,
    },
    "GenerateAnswer": {
        **record("model_name model_version", model_name=STRING, model_version=STRING, id=STRING),
        "additionalProperties": _SCALARS,
    },
    "PredictRequest": {
        "oneOf": [
            record("instances", instances=array(ANYTHING, minItems=1)),
            record("inputs", inputs={"type": ["array", "object"]}),
        ]
    },
    "PredictAnswer": {
        "oneOf": [
            record("predictions", predictions=array(ANYTHING), truncated=_TRUNCATED),
            record("outputs", outputs={"type": ["array", "object"]}, truncated=_TRUNCATED),
        ]
    },
    "ClassifyAnswer": record(
        "model version results",
        model=STRING,
        version=STRING,
        results=array(array(record("label index score", label=STRING, index=COUNT, score=_FLOAT))),
        truncated=_TRUNCATED,
    ),
    "EmbeddingsAnswer": record(
        "object data model usage",
        object={"const": "list"},
        data=array(
            record(
                "object index embedding",
                object={"const": "embedding"},
                index=COUNT,
                embedding={"anyOf": [array(_FLOAT), {**STRING, "contentEncoding": "base64"}]},
            )
        ),
        model=STRING,
        usage=record("prompt_tokens total_tokens", prompt_tokens=COUNT, total_tokens=COUNT),
        truncated=_TRUNCATED,
    ),
    "Models": record(
        "object data models",
        object={"const": "list"},
        data=array(record(" ".join(_OPENAI_MODEL), **_OPENAI_MODEL)),
        models=array(STRING),
    ),
    "ModelStatus": record(
        " ".join(["name ready model_version_status", *_OPENAI_MODEL]),
        **_OPENAI_MODEL,
        name=STRING,
        ready=BOOLEAN,
        model_version_status=array(
            record(
                "version state status",
                version=STRING,
                state={"enum": ["AVAILABLE", "LOADING"]},
                status=record("error_code error_message", error_code=STRING, error_message=STRING),
            )
        ),
    ),
    "Signatures": record(
        "model_spec metadata",
        model_spec=record(
            "name signature_name version", name=STRING, signature_name=STRING, version=STRING
        ),
        metadata=record("signature_def", signature_def={"type": "object"}),
    ),
    "LogSettings": record(
        "log_file log_info log_warning log_error log_verbose_level log_format", **_LOG_SETTINGS
    ),
    "LogChanges": _changes(_LOG_SETTINGS | {"log_file": {"const": ""}}),
    "TraceSettings": record(
        "trace_level trace_rate trace_count log_frequency trace_file", **_TRACE_SETTINGS
    ),
    "TraceChanges": _changes(
        {name: {"const": value} for name, value in orjson.loads(tracing_document()).items()}
    ),
    "Document": record(
        "openapi info paths", openapi=STRING, info={"type": "object"}, paths={"type": "object"}
    ),
}


def schemas() -> dict[str, Schema]:
    """All of them; those of the small bodies are made by their pydantic models."""
    found = dict(_SCHEMAS)
    for model in (ClassifyBody, EmbeddingsBody):
        schema = model.model_json_schema(ref_template=REF + "{model}")
        found |= schema.pop("$defs", {})
        found[model.__name__] = schema
    return found
