"""Models and errors in the shapes of OpenAI's client, beside those of others at the same paths."""

from collections.abc import Iterator

import openai
import pytest
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform

from headrace.edge.routes import RouteTable
from headrace.gateway.api.endpoints import ROUTES


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    with in_process_platform(tmp_path_factory.mktemp("plain")) as running:
        yield running


@pytest.fixture
def client(served: InProcessPlatform) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"http://127.0.0.1:{served.port}/v1", api_key="none", max_retries=0
    ) as client:
        yield client


def test_each_model_of_the_list_can_be_retrieved(client: openai.OpenAI) -> None:
    (listed,) = client.models.list().data
    assert (listed.id, listed.object, listed.owned_by) == ("doubler", "model", "headrace")
    found = client.models.retrieve(listed.id)
    assert {found.id: (found.object, found.created, found.owned_by)} == {
        "doubler": ("model", 0, "headrace")
    }


def test_what_tensorflow_and_kserve_read_is_beside_it(served: InProcessPlatform) -> None:
    document = served.ask("GET", "/v1/models/doubler")[1]
    assert (document["name"], document["ready"]) == ("doubler", True)
    assert document["model_version_status"][0]["state"] == "AVAILABLE"


def test_a_model_that_is_not_there_is_told_in_the_client_s_words(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no such model") as caught:
        client.models.retrieve("nobody")
    assert (caught.value.code, caught.value.type) == ("model_not_found", "not_found_error")


async def test_the_asyncio_client_is_told_in_its_words_too(served: InProcessPlatform) -> None:
    url = f"http://127.0.0.1:{served.port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="no such model"):
            await client.models.retrieve("nobody")


@pytest.mark.parametrize("agent", ["curl/8", "python-httpx/0.28", "tensorflow", ""])
def test_all_others_read_a_sentence_at_the_same_path(served: InProcessPlatform, agent: str) -> None:
    status, document, _ = served.ask("GET", "/v1/models/nobody", headers={"User-Agent": agent})
    assert (status, document["error"], document["code"]) == (
        404,
        "no such model",
        "model_not_found",
    )


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/embeddings", "openai"),
        ("/v1/embeddings/", "openai"),
        ("/v1/models", "shared"),
        ("/v1/models/nobody", "shared"),
        ("/v1/models/nobody/", "shared"),
        ("/v1/models/{model}", "shared"),
        ("/v1/models/nobody:predict", "own"),
        ("/v1/models/nobody:classify", "own"),
        ("/v1/models/nobody:stream", "own"),
        ("/v1/models/nobody/versions/1", "own"),
        ("/v1/models/nobody/labels/stable", "own"),
        ("/v1/models/nobody/metadata", "own"),
        ("/v2/models/nobody", "own"),
        ("/v1/other", "own"),
        ("", "own"),
    ],
)
def test_only_where_openai_s_client_asks_errors_have_its_shape(path: str, shape: str) -> None:
    assert RouteTable(ROUTES).error_shape(path) == shape


@pytest.mark.parametrize(
    "path", ["/v1/models/nobody:predict", "/v1/models/nobody/versions/1", "/v2/models/nobody"]
)
def test_elsewhere_an_error_is_a_sentence(served: InProcessPlatform, path: str) -> None:
    method = "POST" if ":" in path else "GET"
    status, document, _ = served.ask(method, path, b"{}" if method == "POST" else b"")
    assert (status, document["error"]) == (404, "no such model")
