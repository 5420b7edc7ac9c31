"""One photo or text through every endpoint of its model: the answers are equal to the last bit."""

from collections.abc import Callable

import numpy as np
import pytest
from loadtests.support.checkout import REPOSITORY
from tests import data
from tests.conformance.endpoints import ENDPOINTS, Asked, Endpoint, exactly, reference
from tests.platform.running import Platform

from headrace_models import preprocess
from headrace_models.repository import scan

pytestmark = [pytest.mark.ray, pytest.mark.zoo]

TEXTS = {
    "dga-lstm": b"xkqjzvbwpt.com",
    "mail-spam": b"Your invoice. Dear customer, please find it attached, and reply by Monday.",
    "minilm-l6": "A cat sits on the mat, says the caf\u00e9.".encode(),
}


@pytest.fixture(scope="module")
def asked(served: Platform) -> Callable[[str], Asked]:
    def asked(model: str) -> Asked:
        version = scan(REPOSITORY, [model])[0][0]
        item = TEXTS.get(model) or data.photo("coffee.png")
        assert version.spec.raw is not None
        arrays = preprocess.load(version.spec.raw, version.folder)(item).tensors
        return Asked(served.port, version.spec, item, arrays)

    return asked


@pytest.mark.parametrize(
    ("model", "endpoint"),
    [
        pytest.param(model, endpoint, id=f"{model}-{endpoint.__name__}")
        for model, endpoints in ENDPOINTS.items()
        for endpoint in endpoints
    ],
)
def test_a_door_gives_the_bits_that_infer_gives(
    asked: Callable[[str], Asked], model: str, endpoint: Endpoint
) -> None:
    one = asked(model)
    expected = reference(one)
    assert expected.size == one.spec.outputs[0].shape[0]
    assert endpoint(one).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("model", "form"),
    [
        ("dga-lstm", "json"),
        ("mail-spam", "json"),
        ("efficientnet-lite0", "json"),
        ("efficientnet-lite0", "body"),
    ],
)
def test_classify_gives_the_scores_of_infer(
    asked: Callable[[str], Asked], model: str, form: str
) -> None:
    one = asked(model)
    output, values = one.spec.outputs[0], reference(one)
    body = one.item if form == "body" else {"input": one.value, "top_k": values.size}
    (found,) = one.v1(
        "classify", body, Content_Type="image/png" if form == "body" else "application/json"
    )["results"]
    scores = values
    if output.activation == "softmax":
        shifted = np.exp(values - values.max())
        scores = shifted / shifted.sum()
    indices = [entry["index"] for entry in found]
    assert exactly([entry["score"] for entry in found]).tobytes() == scores[indices].tobytes()
    assert indices == np.argsort(-scores, kind="stable").tolist()[: len(found)]
