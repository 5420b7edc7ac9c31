"""Each endpoint of the running platform, asked as its users ask it."""

import base64

import numpy as np
import openai
import orjson
import pytest
from tests import data
from tests.platform.running import Platform

from headrace_models.build import ZOO

pytestmark = [pytest.mark.ray, pytest.mark.zoo]


def test_a_posted_photo_of_an_espresso_is_an_espresso(served: Platform) -> None:
    status, body = served.ask(
        "POST",
        "/v1/models/efficientnet-lite0:classify",
        data.photo("coffee.png"),
        {"Content-Type": "image/png"},
    )
    assert status == 200
    answer = orjson.loads(body)
    assert (answer["model"], answer["version"]) == ("efficientnet-lite0", "1")
    best = answer["results"][0][0]
    assert (best["label"], best["index"]) == ("espresso", 967)
    assert len(answer["results"][0]) == 5


def test_a_photo_in_base64_gets_the_same_answer_as_the_photo_itself(served: Platform) -> None:
    photo = data.photo("coffee.png")
    document = {"input": {"b64": base64.b64encode(photo).decode()}, "top_k": 5}
    path = "/v1/models/efficientnet-lite0:classify"
    _, raw = served.ask("POST", path, photo, {"Content-Type": "image/png"})
    assert served.ask_json(path, document)["results"] == orjson.loads(raw)["results"]


def test_a_generated_domain_is_told_from_a_real_one(served: Platform) -> None:
    answer = served.ask_json(
        "/v1/models/dga-lstm:classify", {"input": ["wikipedia.org", "xkqjzvbwpt.com"]}
    )
    assert [row[0]["label"] for row in answer["results"]] == ["benign", "generated"]


def test_a_spam_and_a_ham_mail_are_told_apart(served: Platform) -> None:
    mails = [
        "You won! Claim your prize now: free money, no risk, click here to be removed.",
        "Hi Bob, the patch for the compiler is attached, please review it before Monday's release.",
    ]
    answer = served.ask_json("/v1/models/mail-spam:classify", {"input": mails})
    assert [row[0]["label"] for row in answer["results"]] == ["spam", "ham"]


def test_the_openai_client_gets_embeddings(served: Platform) -> None:
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{served.port}/v1", api_key="none", max_retries=0
    )
    texts = [
        "A cat sits on the mat.",
        "A kitten rests on a rug.",
        "The central bank raised interest rates.",
    ]
    base64_answer = client.embeddings.create(model="minilm-l6", input=texts)
    float_answer = client.embeddings.create(model="minilm-l6", input=texts, encoding_format="float")
    vectors = np.array([item.embedding for item in base64_answer.data])
    cosine = vectors @ vectors.T
    assert cosine[0, 1] > cosine[0, 2]
    assert base64_answer.usage.prompt_tokens == float_answer.usage.prompt_tokens > len(texts)
    np.testing.assert_allclose(vectors, [item.embedding for item in float_answer.data], atol=1e-6)


def test_the_openai_client_understands_an_unknown_model(served: Platform) -> None:
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{served.port}/v1", api_key="none", max_retries=0
    )
    with pytest.raises(openai.NotFoundError, match="no such model"):
        client.embeddings.create(model="nobody", input="text")


def test_frames_of_a_voice_clip_have_speech_in_them_and_frames_of_silence_have_not(
    served: Platform,
) -> None:
    clip = next(file for file in data.spoken_prompts() if file.stem == "vm-intro")
    speech = _probabilities(served, data.samples(clip))
    silence = _probabilities(served, np.zeros(8000, np.float32))
    assert max(speech) > 0.9
    assert max(silence) < 0.2


def _probabilities(served: Platform, samples: np.ndarray) -> list[float]:
    """8 kHz audio, frame by frame: 32 samples of context, 256 new ones, and the state."""
    context, state, found = np.zeros(32, np.float32), None, []
    for start in range(0, len(samples) - 255, 256):
        frame = np.concatenate([context, samples[start : start + 256]])
        context = frame[-32:]
        inputs = [{"name": "input", "datatype": "FP32", "shape": [1, 288], "data": frame.tolist()}]
        if state is not None:
            inputs.append(
                {"name": "state", "datatype": "FP32", "shape": [1, 2, 128], "data": state}
            )
        outputs = served.ask_json("/v2/models/silero-vad/infer", {"inputs": inputs})["outputs"]
        by_name = {output["name"]: output["data"] for output in outputs}
        found.append(by_name["output"][0])
        state = by_name["stateN"]
    return found


def test_metrics_of_every_process_are_on_one_page(served: Platform) -> None:
    served.ask_json("/v1/models/dga-lstm:classify", {"input": "gnu.org"})
    page = served.ask("GET", "/metrics", admin=True)[1].decode()
    assert 'headrace_requests_total{api="classify",code="200",model="dga-lstm"' in page
    assert 'headrace_batch_rows_count{model="dga-lstm"' in page
    assert 'headrace_queue_seconds_bucket{le="0.0005",model="dga-lstm"' in page


def test_prometheus_discovers_every_process(served: Platform) -> None:
    groups = orjson.loads(served.ask("GET", "/sd", admin=True)[1])
    roles = sorted(group["labels"]["role"] for group in groups)
    assert roles == ["admin", "gateway", "gateway", *["replica"] * len(ZOO)]
    assert len({group["targets"][0] for group in groups}) == len(groups)
