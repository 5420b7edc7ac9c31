"""The load tests' requests, against the models: the right answer is the model's own."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import orjson
import pytest
from loadtests.inputs import MODELS, WEIGHTS, CheckedRequest, infer_request, requests_for
from loadtests.support.checkout import REPOSITORY

from headrace import backends
from headrace.gateway.api.classify import classify_results
from headrace.gateway.api.embeddings import EmbeddingsBody, embeddings
from headrace.inference.request import Answer, Times
from headrace.inference.tensor import from_array
from headrace_models import preprocess
from headrace_models.errors import ModelError
from headrace_models.repository import ModelVersion, read_version

CLASSIFIERS = ("efficientnet-lite0", "dga-lstm", "mail-spam")


def built(model: str) -> ModelVersion:
    folder = REPOSITORY / model / "1"
    if not folder.is_dir():
        pytest.skip(f"{model} is not built: no {folder}")
    return read_version(folder)


@cache
def runner(model: str) -> Callable[[bytes], Mapping[str, np.ndarray]]:
    """From a raw input to the model's outputs."""
    version = built(model)
    assert version.spec.raw is not None
    prepare, backend = (
        preprocess.load(version.spec.raw, version.folder),
        backends.load(version, "onnx"),
    )
    return lambda raw: backend.run(prepare(raw).tensors)


def classified(version: ModelVersion, request: CheckedRequest) -> bytes:
    """The answer of the classify endpoint."""
    is_photo = request.headers["Content-Type"] == "image/jpeg"
    raw = request.body if is_photo else orjson.loads(request.body)["input"].encode()
    output = version.spec.classes
    assert output is not None
    assert output.labels is not None
    labels = version.path(output.labels).read_text(encoding="utf-8").splitlines()
    answer = Answer(
        [from_array(output.name, runner(version.spec.name)(raw)[output.name])], Times(0, 0, 0, 1)
    )
    return orjson.dumps({"results": classify_results(answer, output, 1, labels, 5)})


@pytest.mark.zoo
@pytest.mark.parametrize("model", CLASSIFIERS)
def test_the_models_own_label_is_right(model: str) -> None:
    version = built(model)
    assert [
        request.body
        for request in requests_for(model)
        if not request.accepts(classified(version, request))
    ] == []


@pytest.mark.zoo
def test_paraphrases_are_close_and_others_are_not() -> None:
    embed = runner("minilm-l6")
    pairs = [orjson.loads(request.body)["input"] for request in requests_for("minilm-l6")]
    vectors = [[embed(text.encode())["embedding"][0] for text in pair] for pair in pairs]
    for n, request in enumerate(requests_for("minilm-l6")):
        assert request.accepts(embedded(*vectors[n]))
        assert not request.accepts(embedded(vectors[n][0], vectors[n - 1][1]))


def embedded(*vectors: np.ndarray) -> bytes:
    asked = EmbeddingsBody(model="minilm-l6", input=["a", "b"], encoding_format="base64")
    return orjson.dumps(embeddings(np.stack(vectors), 2, asked, built("minilm-l6").spec))


@pytest.mark.zoo
def test_a_step_of_audio_has_its_own_answer() -> None:
    golden = np.load(built("silero-vad").path("golden.npz"))["output:output"]
    answers = [
        orjson.dumps({"outputs": [{"name": "output", "data": row.tolist()}]}) for row in golden
    ]
    first, second = requests_for("silero-vad")
    assert first.accepts(answers[0])
    assert second.accepts(answers[1])
    assert not first.accepts(answers[1])


@pytest.mark.parametrize(
    "answer", [b"", b"no json", b"{}", b'{"results": []}', b'{"results": [[]]}', b"[]"]
)
def test_nonsense_is_no_right_answer(answer: bytes) -> None:
    assert not any(
        request.accepts(answer)
        for model in ("dga-lstm", "mail-spam", "minilm-l6")
        for request in requests_for(model)
    )


def test_a_model_that_is_not_built_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a sound version of silero-vad"):
        requests_for("silero-vad", tmp_path)


def test_an_infer_request_says_how_long_its_header_is() -> None:
    request = infer_request(
        "m", {"x": np.ones((1, 2), np.float32)}, "y", np.ones((1, 1), np.float32)
    )
    split = int(request.headers["Inference-Header-Content-Length"])
    assert orjson.loads(request.body[:split])["inputs"][0]["parameters"] == {"binary_data_size": 8}
    assert request.body[split:] == np.ones(2, "<f4").tobytes()


def test_users_ask_every_model_that_requests_are_known_for() -> None:
    assert set(WEIGHTS) == set(MODELS)
