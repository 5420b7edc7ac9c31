"""The OpenAPI document: it is valid and complete, and answers have the schemas that it gives."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import pytest
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from headrace.edge.problems import STATUS
from headrace.gateway.api.endpoints import ENDPOINTS, ROUTES
from headrace.gateway.api.openapi import document

DOCUMENT: Mapping[str, Any] = document(ENDPOINTS)
# Those of requests that are no operation of the document, and of nobody.
ELSEWHERE = {405, 499, 501, 505}


def operations() -> Iterator[tuple[str, str, Any]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def test_the_document_is_valid_openapi() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(dict(DOCUMENT)).iter_errors()] == []


def test_every_route_is_an_operation() -> None:
    assert {(method.upper(), path) for path, method, _ in operations()} == {
        (r.method, r.template) for r in ROUTES
    }


def test_the_names_of_operations_are_unique() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))


def test_every_operation_says_what_it_does() -> None:
    assert [
        path for path, _, operation in operations() if not operation["summary"].endswith((".", ":"))
    ] == []


def test_every_tag_is_described() -> None:
    assert {tag for _, _, o in operations() for tag in o["tags"]} == {
        tag["name"] for tag in DOCUMENT["tags"]
    }


def test_every_status_of_the_table_of_errors_is_an_answer_of_some_operation() -> None:
    statuses = {
        int(status) for _, _, operation in operations() for status in operation["responses"]
    }
    assert statuses == {200, *STATUS.values()} - ELSEWHERE


def test_every_body_that_is_documented_is_read() -> None:
    kinds = {kind for e in ENDPOINTS for kind in e.body_media if kind not in e.reads}
    assert kinds == set()
    assert [e.paths for e in ENDPOINTS if e.body and "application/json" not in e.reads] == []


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    with in_process_platform(tmp_path_factory.mktemp("documented")) as running:
        yield running


def check(served: InProcessPlatform, method: str, path: str, body: object = None) -> None:
    """Ask at a path of the document, and hold the answer to its schema."""
    target = path.replace("{model}", "doubler").replace("{version}", "1")
    content = b"" if body is None else orjson.dumps(body)
    status, document, headers = served.ask(method, target, content)
    assert status == 200, document
    answer = DOCUMENT["paths"][path][method.lower()]["responses"]["200"]["content"]
    assert next(iter(answer)) == headers["content-type"] == "application/json"
    schema = {**answer["application/json"]["schema"], "components": DOCUMENT["components"]}
    assert [error.message for error in OAS31Validator(schema).iter_errors(document)] == []


@pytest.mark.parametrize(
    "path",
    [
        path
        for e in ENDPOINTS
        for path in e.paths
        if e.method == "GET" and e.answer and "{label}" not in path
    ],
)
def test_an_answer_has_the_schema_of_its_row(served: InProcessPlatform, path: str) -> None:
    check(served, "GET", path)


ROW = [1, 2, 3, 4]
TENSOR = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROW}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/models/{model}/infer", {"inputs": [TENSOR], "id": "a"}),
        ("/v2/models/{model}/versions/{version}/infer", {"inputs": [TENSOR]}),
        ("/v2/models/{model}/generate", {"x": ROW, "id": "a"}),
        ("/v1/models/{model}:predict", {"instances": [ROW]}),
        ("/v1/models/{model}:predict", {"inputs": [ROW]}),
        ("/v2/repository/index", {}),
        ("/v2/logging", {}),
        ("/v2/trace/setting", {"trace_level": ["OFF"]}),
    ],
)
def test_an_answer_to_a_body_has_the_schema_of_its_row(
    served: InProcessPlatform, path: str, body: object
) -> None:
    check(served, "POST", path, body)
