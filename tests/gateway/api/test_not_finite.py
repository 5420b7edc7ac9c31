"""Numbers that are not finite: unchanged in binary, null in JSON, last among classes."""

import base64
import json
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import orjson
import pytest
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform
from tests.gateway.wire.test_infer import spec

from headrace.gateway.api.answers import json_response
from headrace.gateway.api.classify import classify_results
from headrace.gateway.api.embeddings import EmbeddingsBody, embeddings
from headrace.gateway.settings import GatewayModelSettings
from headrace.gateway.wire.classification import classes_of
from headrace.inference.request import Answer, Times
from headrace.inference.tensor import from_array, to_array
from headrace_models.spec import DTYPES, OutputSpec

INFER, PREDICT = "/v2/models/doubler/infer", "/v1/models/doubler:predict"
ROW = np.array([[1, np.nan, np.inf, -np.inf]], np.float32)
TOKENS = "[1, NaN, Infinity, -Infinity]"
TOLD = [2.0, None, None, None]
FLOATS = ["FP16", "FP32", "FP64", "BF16"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    models = {"doubler": GatewayModelSettings(cache_bytes=1 << 20)}
    with in_process_platform(tmp_path_factory.mktemp("plain"), models=models) as running:
        yield running


def ask(served: InProcessPlatform, path: str, body: str) -> Any:
    status, answer, _ = served.ask("POST", path, body.encode())
    assert status == 200, answer
    return answer


def ask_binary(served: InProcessPlatform, row: "np.ndarray") -> tuple[bytes, dict[str, str]]:
    """The bytes of the doubled row, and the answer's headers."""
    sent = {
        "name": "x",
        "datatype": "FP32",
        "shape": [1, 4],
        "parameters": {"binary_data_size": row.nbytes},
    }
    header = orjson.dumps({"inputs": [sent], "parameters": {"binary_data_output": True}})
    length = {"Inference-Header-Content-Length": str(len(header))}
    status, body, headers = served.ask("POST", INFER, header + row.tobytes(), length)
    assert status == 200, body
    return body[int(headers["inference-header-content-length"]) :], headers


def test_binary_carries_them_as_they_are(served: InProcessPlatform) -> None:
    np.testing.assert_array_equal(np.frombuffer(ask_binary(served, ROW)[0], "<f4"), ROW[0] * 2)


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        (
            INFER,
            f'{{"inputs":[{{"name":"x","shape":[1,4],"datatype":"FP32","data":{TOKENS}}}]}}',
            "outputs",
        ),
        (PREDICT, f'{{"instances":[{TOKENS}]}}', "predictions"),
        (PREDICT, f'{{"instances":[{{"x":{TOKENS}}}]}}', "predictions"),
        (PREDICT, f'{{"inputs":{{"x":[{TOKENS}]}}}}', "outputs"),
        ("/v2/models/doubler/generate", f'{{"x":{TOKENS}}}', "y"),
    ],
)
def test_json_reads_them_and_writes_null_at_every_door(
    served: InProcessPlatform, path: str, body: str, name: str
) -> None:
    found = ask(served, path, body)[name]
    assert (found[0]["data"] if path == INFER else np.ravel(found).tolist()) == TOLD


def test_a_long_array_may_have_them_anywhere(served: InProcessPlatform) -> None:
    rows = np.random.default_rng(0).standard_normal((1000, 4)).round(12)
    rows.flat[[0, 17, 3000, -1]] = [np.nan, np.inf, -np.inf, np.nan]
    data = json.dumps(rows.tolist())
    body = f'{{"inputs":[{{"name":"x","shape":[1000,4],"datatype":"FP32","data":{data}}}]}}'
    assert len(body) > 64 << 10
    found = np.array(ask(served, INFER, body)["outputs"][0]["data"], float)
    doubled = rows.astype(np.float32).ravel() * 2
    np.testing.assert_array_equal(
        found.astype(np.float32), np.where(np.isfinite(doubled), doubled, np.nan)
    )


def test_equal_bytes_are_one_request_to_the_cache_and_other_bits_of_nan_are_another(
    served: InProcessPlatform,
) -> None:
    bits = np.array([[0x7FC00001, 1, 2, 3]], "<u4")
    first, again = (ask_binary(served, bits.view("<f4"))[1] for _ in range(2))
    other = ask_binary(served, (bits + np.array([[1, 0, 0, 0]], "<u4")).view("<f4"))[1]
    assert ["cache;desc=hit" in headers["server-timing"] for headers in (first, again, other)] == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("datatype", FLOATS)
def test_nan_is_the_last_of_the_classes(datatype: str) -> None:
    values = np.array([[np.nan, 1, np.inf, -np.inf, 3], [np.nan] * 5], DTYPES[datatype])
    best = to_array(classes_of(from_array("y", values), 5, ["a", "b"])).tolist()
    assert best[0] == [b"inf:2", b"3.000000:4", b"1.000000:1:b", b"-inf:3", b"nan:0:a"]
    assert best[1] == [b"nan:0:a", b"nan:1:b", b"nan:2", b"nan:3", b"nan:4"]


@pytest.mark.parametrize("activation", ["none", "softmax"])
@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
@pytest.mark.parametrize(
    "row", [[np.nan, 1, 3], [np.nan, -np.inf, np.inf], [np.nan] * 3, [-np.inf] * 3]
)
def test_classify_orders_by_value_with_nan_last_and_its_score_null(
    activation: str, datatype: str, row: list[float]
) -> None:
    output = OutputSpec.model_validate(
        {"name": "y", "datatype": datatype, "shape": [3], "activation": activation}
    )
    answer = Answer([from_array("y", np.array([row], DTYPES[datatype]))], Times(0, 0, 0, 1))
    (told,) = orjson.loads(orjson.dumps(classify_results(answer, output, 1, ["a", "b", "c"], 3)))
    places = sorted(
        range(3), key=lambda n: (np.isnan(row[n]), -row[n] if not np.isnan(row[n]) else 0, n)
    )
    assert [each["index"] for each in told] == places
    assert all(each["score"] is None for each in told if not np.isfinite(row[each["index"]]))


def test_an_embedding_that_is_not_finite_is_null_or_its_bytes() -> None:
    assert embedded("float") == [1.0, None, None, None]
    assert base64.b64decode(embedded("base64")) == ROW.tobytes()


def embedded(form: Literal["float", "base64"]) -> Any:
    document = embeddings(
        ROW, 1, EmbeddingsBody(model="m", input="x", encoding_format=form), spec()
    )
    return orjson.loads(json_response(document).body)["data"][0]["embedding"]
