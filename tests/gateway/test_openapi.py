"""The OpenAPI document by itself: it is valid, and leaves no route and no error out."""

from collections.abc import Iterator, Mapping
from typing import Any

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
