"""Texts longer than a model reads: each endpoint names those it cut, or refuses by the spec."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import orjson
import pytest
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform
from tests.conformance.small_models import make_reader

from headrace.gateway.settings import GatewayModelSettings

SHORT, LONG = "one two", "one two one"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    """A model that reads two words, two texts a batch, and keeps its answers."""
    models = {"reader": GatewayModelSettings(cache_bytes=1 << 20)}
    with in_process_platform(
        tmp_path_factory.mktemp("reader"), make=make_reader, models=models
    ) as running:
        yield running


def infer(texts: list[str], **more: Any) -> Any:
    return {
        "inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}],
        **more,
    }


ENDPOINTS: dict[str, Callable[[list[str]], Any]] = {
    "/v1/embeddings": lambda texts: {"model": "reader", "input": texts},
    "/v1/models/reader:classify": lambda texts: {"input": texts},
    "/v1/models/reader:predict": lambda texts: {"instances": texts},
    "/v2/models/reader/infer": infer,
}


def ask(reader: InProcessPlatform, path: str, body: Any) -> tuple[int, Any, dict[str, str]]:
    return reader.ask("POST", path, orjson.dumps(body), {"Content-Type": "application/json"})


def told(path: str, answer: Any) -> list[int]:
    """The places that an answer tells."""
    if path.endswith("infer"):
        return [int(place) for place in answer["parameters"]["truncated"].split(",")]
    places: list[int] = answer["truncated"]
    return places


@pytest.mark.parametrize("path", ENDPOINTS)
def test_every_door_tells_which_texts_were_cut(reader: InProcessPlatform, path: str) -> None:
    status, answer, headers = ask(reader, path, ENDPOINTS[path]([SHORT, LONG, SHORT, SHORT, LONG]))
    assert (status, told(path, answer), headers["x-truncated"]) == (200, [1, 4], "2")


@pytest.mark.parametrize("path", ENDPOINTS)
def test_nothing_is_told_of_texts_that_were_read_to_their_end(
    reader: InProcessPlatform, path: str
) -> None:
    status, answer, headers = ask(reader, path, ENDPOINTS[path]([SHORT, SHORT]))
    assert status == 200
    assert "x-truncated" not in headers
    assert b"truncated" not in orjson.dumps(answer)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_kept_answer_tells_it_again_at_every_door(reader: InProcessPlatform, path: str) -> None:
    texts = [LONG, SHORT, LONG, "one"]
    first, again = (ask(reader, path, ENDPOINTS[path](texts)) for _ in range(2))
    assert again[2]["server-timing"].startswith("cache;desc=hit")
    assert told(path, first[1]) == told(path, again[1]) == [0, 2]


def test_places_are_those_of_the_request_though_it_runs_in_many_batches(
    reader: InProcessPlatform,
) -> None:
    texts = [LONG if n % 7 == 0 else SHORT for n in range(200)]
    answer = ask(reader, "/v1/embeddings", {"model": "reader", "input": texts})[1]
    assert answer["truncated"] == list(range(0, 200, 7))


def test_binary_answers_tell_it_in_their_parameters(reader: InProcessPlatform) -> None:
    body = infer([SHORT, LONG], outputs=[{"name": "y", "parameters": {"binary_data": True}}])
    _, answer, headers = ask(reader, "/v2/models/reader/infer", body)
    header = orjson.loads(answer[: int(headers["inference-header-content-length"])])
    assert header["parameters"] == {"truncated": "1"}


@pytest.mark.parametrize("path", ["generate", "generate_stream"])
def test_generate_tells_it_beside_its_outputs(reader: InProcessPlatform, path: str) -> None:
    _, answer, headers = ask(reader, f"/v2/models/reader/{path}", {"text_input": LONG})
    event = answer if isinstance(answer, dict) else orjson.loads(answer.removeprefix(b"data: "))
    assert (event["truncated"], headers["x-truncated"]) == ([0], "1")


def test_a_text_by_itself_is_the_first(reader: InProcessPlatform) -> None:
    assert ask(reader, "/v1/embeddings", {"model": "reader", "input": LONG})[1]["truncated"] == [0]


def test_a_model_may_refuse_what_it_would_cut(tmp_path_factory: pytest.TempPathFactory) -> None:
    strict = partial(make_reader, truncate="error")
    with in_process_platform(tmp_path_factory.mktemp("strict"), make=strict) as running:
        for path, body in ENDPOINTS.items():
            status, answer, _ = ask(running, path, body([SHORT, LONG]))
            assert status == 400, path
            assert "text too long (limit 4 tokens): found 5" in str(answer["error"])
            assert ask(running, path, body([SHORT, SHORT]))[0] == 200
