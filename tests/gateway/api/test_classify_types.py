"""Bodies of classify by their Content-Type: a model takes JSON, and the types of its own kind."""

from collections.abc import Iterator

import pytest
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform
from tests.conformance.small_models import make_reader

from headrace_models.spec import UPLOAD_TYPES

PATH = "/v1/models/reader:classify"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    """A model of texts."""
    with in_process_platform(tmp_path_factory.mktemp("reader"), make=make_reader) as running:
        yield running


@pytest.mark.parametrize("kind", [*UPLOAD_TYPES, "multipart/form-data"])
def test_a_model_of_texts_takes_no_upload(reader: InProcessPlatform, kind: str) -> None:
    status, answer, _ = reader.ask("POST", PATH, b'{"input": "one"}', {"Content-Type": kind})
    assert (status, answer["code"]) == (415, "unsupported_media_type")
    assert answer["error"] == (
        f"Content-Type: expected application/json, as the model takes text, found {kind}"
    )


@pytest.mark.parametrize("kind", ["", "application/json", "application/x-www-form-urlencoded"])
def test_a_model_of_texts_takes_json(reader: InProcessPlatform, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    status, answer, _ = reader.ask("POST", PATH, b'{"input": "one"}', headers)
    assert (status, len(answer["results"])) == (200, 1)
