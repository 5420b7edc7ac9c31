"""The OpenAI client, unmodified: every form of input, both encodings, and its own errors."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from loadtests.support.checkout import REPOSITORY
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform
from tests.platform.running import Platform

from headrace.keys.file import add_key
from headrace.keys.key import issue, utc_now
from headrace_models import preprocess
from headrace_models.repository import scan

pytestmark = [pytest.mark.ray, pytest.mark.zoo]

MODEL = "minilm-l6"
TEXTS = ["A cat sits on the mat.", "The central bank raised interest rates in spring."]


def client_of(port: int, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=0, timeout=30
    )


@pytest.fixture
def client(served: Platform) -> Iterator[openai.OpenAI]:
    with client_of(served.port) as client:
        yield client


@pytest.fixture(scope="module")
def ids() -> list[list[int]]:
    """The texts' token ids."""
    version = scan(REPOSITORY, [MODEL])[0][0]
    assert version.spec.raw is not None
    tokenize = preprocess.load(version.spec.raw, version.folder)
    return [tokenize(text.encode()).tensors["input_ids"][0].tolist() for text in TEXTS]


def vectors(client: openai.OpenAI, given: Any, **more: Any) -> np.ndarray:
    answer = client.embeddings.create(model=MODEL, input=given, **more)
    assert answer.model == MODEL
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    return np.array([item.embedding for item in answer.data], np.float32)


def test_a_text_is_the_first_of_texts(client: openai.OpenAI) -> None:
    assert vectors(client, TEXTS[0]).shape == (1, 384)
    np.testing.assert_allclose(vectors(client, TEXTS[0]), vectors(client, TEXTS)[:1], atol=1e-6)


def test_token_ids_are_the_text_that_they_are_of(
    client: openai.OpenAI, ids: list[list[int]]
) -> None:
    np.testing.assert_array_equal(vectors(client, ids[0]), vectors(client, TEXTS[0]))


def test_lists_of_token_ids_of_different_lengths_are_texts(
    client: openai.OpenAI, ids: list[list[int]]
) -> None:
    assert len(ids[0]) != len(ids[1])
    np.testing.assert_allclose(vectors(client, ids), vectors(client, TEXTS), atol=1e-6)


def test_tokens_are_counted_alike(client: openai.OpenAI, ids: list[list[int]]) -> None:
    counts = [
        client.embeddings.create(model=MODEL, input=given).usage.total_tokens
        for given in (TEXTS, ids)
    ]
    assert counts == [sum(map(len, ids))] * 2


def test_both_encodings_have_the_same_bits(client: openai.OpenAI) -> None:
    """The client requests and decodes base64 by itself, unless the caller named an encoding."""
    floats = vectors(client, TEXTS[0], encoding_format="float")
    text: Any = (
        client.embeddings.create(model=MODEL, input=TEXTS[0], encoding_format="base64")
        .data[0]
        .embedding
    )
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(text), "<f4"), floats[0])
    np.testing.assert_array_equal(vectors(client, TEXTS[0]), floats)


def test_the_model_s_own_dimensions_may_be_named(client: openai.OpenAI) -> None:
    assert vectors(client, TEXTS, dimensions=384).shape == (2, 384)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"input": TEXTS, "dimensions": 100}, "dimensions: expected 384, found 100"),
        ({"input": []}, "input"),
        ({"input": ""}, "empty"),
        ({"input": [40_000]}, "input: expected values from 0 to 30521"),
        ({"input": TEXTS, "model": "dga-lstm"}, "model: expected a model that embeds text"),
    ],
    ids=["dimensions", "no-texts", "empty-text", "token-out-of-range", "no-embedder"],
)
def test_a_wrong_request_is_a_bad_request_with_its_place(
    client: openai.OpenAI, given: dict[str, Any], place: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=place) as caught:
        client.embeddings.create(**{"model": MODEL, **given})
    assert caught.value.type == "invalid_request_error"


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no such model") as caught:
        client.embeddings.create(model="nobody", input="text")
    assert caught.value.code == "model_not_found"


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert MODEL in [model.id for model in client.models.list()]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[InProcessPlatform, str]]:
    """A gateway before the doubler with one key, and that key."""
    folder: Path = tmp_path_factory.mktemp("keyed")
    key, text = issue("test", utc_now())
    add_key(folder / "keys.json", key)
    with in_process_platform(folder, keys=folder / "keys.json") as running:
        yield running, text


def test_a_wrong_key_is_an_authentication_error(keyed: tuple[InProcessPlatform, str]) -> None:
    with (
        client_of(keyed[0].port, "wrong") as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.embeddings.create(model="doubler", input="text")
    assert caught.value.code == "unauthorized"


def test_a_right_key_opens_the_door(keyed: tuple[InProcessPlatform, str]) -> None:
    with client_of(keyed[0].port, keyed[1]) as client:
        with pytest.raises(openai.BadRequestError, match="a model that embeds text"):
            client.embeddings.create(model="doubler", input="text")
        assert [model.id for model in client.models.list()] == ["doubler"]
