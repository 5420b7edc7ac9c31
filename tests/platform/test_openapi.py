"""The OpenAPI document against the running zoo: requests are answered as it says."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Err
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests import data
from tests.platform.running import Platform

from headrace.gateway.api.endpoints import ENDPOINTS
from headrace.gateway.api.openapi import document
from headrace_models.build import ZOO

pytestmark = [pytest.mark.ray, pytest.mark.zoo]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MODELS = sorted(ZOO)
DOCUMENT: dict[str, Any] = document(ENDPOINTS)
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
_FOUND: list[Any] = [
    found.ok() for found in SCHEMA.get_all_operations() if not isinstance(found, Err)
]
OPERATIONS = {operation.label: operation for operation in _FOUND}
# A label is one that the settings give, and these give none. A stream's body is no JSON, and has a
# test of its own.
NOT_ANSWERED = ("labels", "sharedmemory", ":stream")
ANSWERED = [label for label in OPERATIONS if not any(part in label for part in NOT_ANSWERED)]


@pytest.fixture(autouse=True, scope="module")
def log_settings(served: Platform) -> Iterator[None]:
    """The settings as they were: an operation changes them."""
    before = served.ask("GET", "/v2/logging")[1]
    yield
    assert served.ask("POST", "/v2/logging", before)[0] == 200


def call(served: Platform, case: Any) -> Any:
    """The answer, which is held to the document."""
    answer = case.call(base_url=f"http://127.0.0.1:{served.port}", timeout=30)
    case.validate_response(answer, checks=CHECKS)
    return answer


@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"]
)
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_operation_answers_as_the_document_says(
    served: Platform, label: str, mode: GenerationMode
) -> None:
    operation = OPERATIONS[label]

    @settings(
        max_examples=15,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), model=st.sampled_from([*MODELS, None]))
    def check(case: Any, model: str | None) -> None:
        # A deadline of a millisecond is rightly missed, with 504.
        case.headers.pop("X-Request-Timeout", None)
        if model and mode == GenerationMode.POSITIVE:
            known = {"model": model, "version": "1"}
            case.path_parameters |= {
                name: known[name] for name in known if name in case.path_parameters
            }
        call(served, case)

    check()


@pytest.mark.parametrize("label", ANSWERED)
def test_every_example_of_the_document_is_answered(served: Platform, label: str) -> None:
    operation = OPERATIONS[label]
    definition = definition_of(label)
    path = {p["name"]: p["example"] for p in definition["parameters"] if p["in"] == "path"}
    content = definition.get("requestBody", {}).get("content", {}).get("application/json", {})
    bodies = [example["value"] for example in content.get("examples", {}).values()]
    assert bool(bodies) == ("requestBody" in definition)
    for body in bodies or [None]:
        more = {} if body is None else {"body": body, "media_type": "application/json"}
        assert call(served, operation.Case(path_parameters=path, **more)).status_code == 200


def definition_of(label: str) -> Mapping[str, Any]:
    method, path = label.split(" ")
    definition: Mapping[str, Any] = DOCUMENT["paths"][path][method.lower()]
    return definition


def test_a_photo_is_answered_as_the_document_says(served: Platform) -> None:
    operation = OPERATIONS["POST /v1/models/{model}:classify"]
    case = operation.Case(
        path_parameters={"model": "efficientnet-lite0"},
        body=data.photo("coffee.png"),
        media_type="image/png",
    )
    assert call(served, case).status_code == 200


def test_a_chunk_of_audio_is_answered_as_the_document_says(served: Platform) -> None:
    label = "POST /v1/models/{model}:stream"
    examples: dict[str, dict[str, str]] = {p["in"]: {} for p in definition_of(label)["parameters"]}
    for parameter in definition_of(label)["parameters"]:
        if "example" in parameter:
            examples[parameter["in"]][parameter["name"]] = str(parameter["example"]).replace(
                "True", "true"
            )
    case = OPERATIONS[label].Case(
        path_parameters=examples["path"],
        query=examples["query"] | {"sequence_end": "true"},
        body=bytes(1536 * 2),
        media_type="application/octet-stream",
    )
    assert call(served, case).status_code == 200


def test_binary_tensors_are_answered_as_the_document_says(served: Platform) -> None:
    header = orjson.dumps(
        {
            "inputs": [
                {
                    "name": "text",
                    "shape": [1],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": 11},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    )
    operation = OPERATIONS["POST /v2/models/{model}/infer"]
    case = operation.Case(
        path_parameters={"model": "dga-lstm"},
        headers={"Inference-Header-Content-Length": str(len(header)), "Accept-Encoding": "gzip"},
        body=header + (7).to_bytes(4, "little") + b"gnu.org",
        media_type="application/octet-stream",
    )
    answer = call(served, case)
    assert (answer.status_code, answer.headers["content-type"]) == (
        200,
        ["application/octet-stream"],
    )


def test_the_served_document_is_the_one_that_is_tested_here(served: Platform) -> None:
    assert orjson.loads(served.ask("GET", "/openapi.json")[1]) == orjson.loads(
        orjson.dumps(DOCUMENT)
    )
