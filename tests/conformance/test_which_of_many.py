"""One of many texts, photos or lists of token ids is bad: every endpoint says which."""

import base64
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from loadtests.support.bad_inputs.photos import png
from loadtests.support.http_request import HttpAnswer
from loadtests.support.in_process_platform import InProcessPlatform
from tests.conformance.talk import post, tensor
from tests.conformance.zoo import serve

pytestmark = pytest.mark.zoo

# More than a batch holds, so that they are run as several.
TEXTS = ["right"] * 69 + [" "] + ["right"] * 10 + [""]
EMPTY = "input[69]: the text is empty"
IDS, TOO_MANY, TOO_LARGE = [101, 102], [101] * 257, [101, 30_522, 102]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, InProcessPlatform]]:
    with ExitStack() as stack:
        names = ("minilm-l6", "mail-spam", "efficientnet-lite0")
        yield {
            name: stack.enter_context(serve(tmp_path_factory.mktemp(name), name)) for name in names
        }


def sentence(said: HttpAnswer) -> str:
    assert said.status == 400, said.body
    error = said.json["error"]
    found: str = error["message"] if isinstance(error, dict) else error
    return found


def embed(served: dict[str, InProcessPlatform], given: object) -> str:
    return sentence(
        post(served["minilm-l6"].port, "/v1/embeddings", {"model": "minilm-l6", "input": given})
    )


def photos(*contents: bytes) -> list[dict[str, str]]:
    return [{"b64": base64.b64encode(content).decode()} for content in contents]


@pytest.mark.parametrize(
    ("model", "path", "body"),
    [
        ("mail-spam", "/v1/models/mail-spam:classify", {"input": TEXTS}),
        (
            "minilm-l6",
            "/v2/models/minilm-l6/infer",
            {"inputs": [tensor("text", [len(TEXTS)], TEXTS, "BYTES")]},
        ),
        (
            "minilm-l6",
            "/v2/models/minilm-l6/infer",
            {"inputs": [tensor("text", [len(TEXTS), 1], TEXTS, "BYTES")]},
        ),
        ("minilm-l6", "/v1/models/minilm-l6:predict", {"instances": TEXTS}),
        (
            "minilm-l6",
            "/v1/models/minilm-l6:predict",
            {"instances": [{"text": text} for text in TEXTS]},
        ),
        ("minilm-l6", "/v1/models/minilm-l6:predict", {"inputs": TEXTS}),
        ("minilm-l6", "/v1/models/minilm-l6:predict", {"instances": [[text] for text in TEXTS]}),
    ],
    ids=[
        "classify",
        "infer",
        "infer-column",
        "predict",
        "predict-by-name",
        "predict-columns",
        "predict-nested",
    ],
)
def test_the_first_bad_text_is_named(
    served: dict[str, InProcessPlatform], model: str, path: str, body: Any
) -> None:
    assert sentence(post(served[model].port, path, body)) == EMPTY


def test_embeddings_name_the_bad_text_or_list(served: dict[str, InProcessPlatform]) -> None:
    assert embed(served, TEXTS) == EMPTY
    assert embed(served, ["one", "two", 3]) == '"input[2]": input should be a valid string'
    assert (
        embed(served, [IDS, IDS, TOO_MANY]) == "input[2]: expected at most 256 token ids, found 257"
    )
    assert (
        embed(served, [IDS, TOO_LARGE]) == "input[1]: expected values from 0 to 30521, found 30522"
    )
    assert embed(served, TOO_LARGE) == "input: expected values from 0 to 30521, found 30522"


def test_the_bad_photo_is_named(served: dict[str, InProcessPlatform]) -> None:
    port = served["efficientnet-lite0"].port
    right, wrong = png(), png()[:60]
    said = post(
        port,
        "/v1/models/efficientnet-lite0:classify",
        {"input": photos(right, right, wrong, right)},
    )
    assert sentence(said).startswith("input[2]: the image is corrupt")
    said = post(
        port, "/v1/models/efficientnet-lite0:predict", {"instances": photos(right, b"text")}
    )
    assert sentence(said).startswith("input[1]: unsupported image format")


def test_a_single_one_needs_no_number(served: dict[str, InProcessPlatform]) -> None:
    assert embed(served, "") == 'input "text": the text is empty'
