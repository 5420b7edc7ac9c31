"""The extensions: binary tensors, compression, classification."""

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from loadtests.support.http_request import HttpAnswer
from tests.conformance.talk import get, infer, post, refused, split, tensor, wide
from tests.platform.running import Platform

pytestmark = pytest.mark.ray

INFER = "/v2/models/wide/infer"
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def binary(port: int, rows: np.ndarray, tail: bytes | None = None, **more: object) -> HttpAnswer:
    """An infer request of `wide` with a binary input, whose bytes are `tail` if that is given."""
    size = {"binary_data_size": rows.nbytes}
    header = orjson.dumps(
        {
            "inputs": [{"name": "x", "shape": rows.shape, "datatype": "FP32", "parameters": size}],
            **more,
        }
    )
    content = rows.tobytes() if tail is None else tail
    return post(
        port, INFER, header + content, {"Inference-Header-Content-Length": str(len(header))}
    )


def outputs_of(document: Mapping[str, list[dict[str, object]]]) -> dict[str, dict[str, object]]:
    return {str(output["name"]): output for output in document["outputs"]}


def test_binary_in_json_out(typed: Platform) -> None:
    said = binary(typed.port, ROWS)
    assert said.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in said.headers
    assert outputs_of(said.json)["twice"]["data"] == (ROWS * 2).ravel().tolist()


def test_json_in_binary_out(typed: Platform) -> None:
    said = post(typed.port, INFER, wide(ROWS, parameters={"binary_data_output": True}))
    assert said.headers["content-type"] == "application/octet-stream"
    header, tail = split(said)
    assert [output["parameters"]["binary_data_size"] for output in header["outputs"]] == [24, 24]
    assert tail == (ROWS * 2).tobytes() + (ROWS * ROWS).tobytes()


def test_mixed_outputs(typed: Platform) -> None:
    wanted = [
        {"name": "square", "parameters": {"binary_data": True}},
        {"name": "twice", "parameters": {"binary_data": False}},
    ]
    header, tail = split(binary(typed.port, ROWS, outputs=wanted))
    square, twice = header["outputs"]
    assert "data" not in square
    assert twice["data"] == (ROWS * 2).ravel().tolist()
    assert tail == (ROWS * ROWS).tobytes()


def test_binary_short_400(typed: Platform) -> None:
    said = binary(typed.port, ROWS, ROWS.tobytes()[:-1])
    assert refused(said, 400, "bad_request")
    assert "inputs[0]" in said.json["error"]


def test_binary_leftover_400(typed: Platform) -> None:
    assert refused(binary(typed.port, ROWS, ROWS.tobytes() + b"x"), 400, "bad_request")


@pytest.mark.parametrize("length", ["abc", "-1", "1.5", ""])
def test_header_not_int_400(typed: Platform, length: str) -> None:
    assert refused(
        post(typed.port, INFER, wide(ROWS), {"Inference-Header-Content-Length": length}),
        400,
        "bad_request",
    )


def test_header_gt_body_400(typed: Platform) -> None:
    said = post(typed.port, INFER, wide(ROWS), {"Inference-Header-Content-Length": "99999"})
    assert refused(said, 400, "bad_request")


def test_header_equals_body_pure_json(typed: Platform) -> None:
    body = orjson.dumps(wide(ROWS))
    said = post(typed.port, INFER, body, {"Inference-Header-Content-Length": str(len(body))})
    assert outputs_of(said.json)["twice"]["data"] == (ROWS * 2).ravel().tolist()


def test_raw_binary_zero_header(typed: Platform) -> None:
    """The whole body is the one input, a batch of one; every output comes back binary."""
    header, tail = split(
        post(typed.port, INFER, ROWS.tobytes(), {"Inference-Header-Content-Length": "0"})
    )
    assert header["outputs"][0]["shape"] == [1, 6]
    assert tail == (ROWS * 2).tobytes() + (ROWS * ROWS).tobytes()


@pytest.mark.zoo
def test_raw_binary_of_several_inputs_400(served: Platform) -> None:
    said = post(
        served.port,
        "/v2/models/mail-spam/infer",
        bytes(16),
        {"Inference-Header-Content-Length": "0"},
    )
    assert refused(said, 400, "bad_request")


def test_gzip_request(typed: Platform) -> None:
    body = gzip.compress(orjson.dumps(wide(ROWS)))
    said = post(typed.port, INFER, body, {"Content-Encoding": "gzip"})
    assert said.json == infer(typed.port, "wide", wide(ROWS))


def test_gzip_request_header_length_is_of_the_inflated_body(typed: Platform) -> None:
    tensor_ = {
        "name": "x",
        "shape": [2, 3],
        "datatype": "FP32",
        "parameters": {"binary_data_size": 24},
    }
    header = orjson.dumps({"inputs": [tensor_]})
    headers = {"Content-Encoding": "gzip", "Inference-Header-Content-Length": str(len(header))}
    said = post(typed.port, INFER, gzip.compress(header + ROWS.tobytes()), headers)
    assert outputs_of(said.json)["twice"]["data"] == (ROWS * 2).ravel().tolist()


def test_deflate_request_is_zlib(typed: Platform) -> None:
    body = orjson.dumps(wide(ROWS))
    assert (
        post(typed.port, INFER, zlib.compress(body), {"Content-Encoding": "deflate"}).status == 200
    )
    bare = zlib.compressobj(wbits=-15)
    said = post(
        typed.port, INFER, bare.compress(body) + bare.flush(), {"Content-Encoding": "deflate"}
    )
    assert refused(said, 400, "bad_encoding")


def test_gzip_response_header_length_uncompressed(typed: Platform) -> None:
    rows = np.zeros((64, 64), np.float32)
    said = post(
        typed.port,
        INFER,
        wide(rows, parameters={"binary_data_output": True}),
        {"Accept-Encoding": "gzip"},
    )
    assert said.headers["content-encoding"] == "gzip"
    assert int(said.headers["content-length"]) == len(said.body)
    header, tail = split(replace(said, body=gzip.decompress(said.body)))
    assert header["outputs"][0]["parameters"]["binary_data_size"] == rows.nbytes
    assert tail == bytes(2 * rows.nbytes)


def test_what_a_library_accepts_by_default_is_not_asked_for(typed: Platform) -> None:
    rows = np.zeros((64, 64), np.float32)
    said = post(typed.port, INFER, wide(rows), {"Accept-Encoding": "gzip, deflate, br"})
    assert "content-encoding" not in said.headers


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_unknown_encoding_415(typed: Platform, encoding: str) -> None:
    said = post(typed.port, INFER, wide(ROWS), {"Content-Encoding": encoding})
    assert refused(said, 415, "unsupported_encoding")
    assert "gzip" in said.headers["accept-encoding"]


@pytest.mark.parametrize(
    "path",
    [
        "/v2",
        "/v2/models/typed",
        "/v2/models/typed/config",
        "/v2/models/typed/stats",
        "/v2/models/stats",
        "/v2/nowhere",
    ],
)
def test_metadata_never_compressed_even_if_accepted(typed: Platform, path: str) -> None:
    said = get(typed.port, path, {"Accept-Encoding": "gzip"})
    assert "content-encoding" not in said.headers
    assert orjson.loads(said.body)


@pytest.mark.zoo
def test_classification_topk_format_and_labels(served: Platform) -> None:
    output = _classified(served, ["xkqjzvbwpt.com"], 2)
    assert output["datatype"] == "BYTES"
    first, second = (element.split(":") for element in output["data"])
    assert (first[1], first[2], second[2]) == ("1", "generated", "benign")
    assert all(len(value.partition(".")[2]) == 6 for value, *_ in (first, second))
    assert float(first[0]) > float(second[0])


@pytest.mark.zoo
def test_classification_k_gt_n(served: Platform) -> None:
    assert _classified(served, ["wikipedia.org"], 50)["shape"] == [1, 2]


@pytest.mark.zoo
def test_classification_batched_shape(served: Platform) -> None:
    output = _classified(served, ["wikipedia.org", "xkqjzvbwpt.com", "gnu.org"], 1)
    assert output["shape"] == [3, 1]
    assert [element.split(":")[2] for element in output["data"]] == [
        "benign",
        "generated",
        "benign",
    ]


@pytest.mark.zoo
def test_classification_in_binary(served: Platform) -> None:
    wanted = [{"name": "probabilities", "parameters": {"classification": 1, "binary_data": True}}]
    document = {"inputs": [tensor("text", [1], ["wikipedia.org"], "BYTES")], "outputs": wanted}
    header, tail = split(post(served.port, "/v2/models/dga-lstm/infer", document))
    assert header["outputs"][0]["parameters"]["binary_data_size"] == len(tail)
    assert int.from_bytes(tail[:4], "little") == len(tail) - 4
    assert tail.endswith(b":0:benign")


def _classified(served: Platform, texts: list[str], k: int) -> Any:
    wanted = [{"name": "probabilities", "parameters": {"classification": k}}]
    document = {"inputs": [tensor("text", [len(texts)], texts, "BYTES")], "outputs": wanted}
    return infer(served.port, "dga-lstm", document)["outputs"][0]
