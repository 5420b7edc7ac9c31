"""Each datatype of the protocol, over the wire and back."""

from typing import Any

import numpy as np
import orjson
import pytest
from loadtests.support.http_request import HttpAnswer
from tests.conformance.small_models import DATATYPES
from tests.conformance.talk import infer, post, refused, split, tensor, wide
from tests.platform.running import Platform

from headrace_models.spec import DTYPES

pytestmark = pytest.mark.ray

VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "FP16": [0.5, -65504.0],
    "FP32": [0.1, -3.5e38 / 2],
    "FP64": [0.1, 1e300],
}


def typed_inputs(**data: object) -> list[dict[str, object]]:
    """All inputs of the model `typed`, with ones but for those given by name."""
    ones = {name.lower(): [True, True] if name == "BOOL" else [1, 1] for name in DATATYPES}
    return [tensor(n, [1, 2], values, n.upper()) for n, values in {**ones, **data}.items()]


@pytest.mark.parametrize("datatype", DATATYPES)
def test_dtype_each_of_13_roundtrip(typed: Platform, datatype: str) -> None:
    """The thirteenth, BYTES, is text's: see test_bytes_utf8_json."""
    values = VALUES.get(datatype) or _limits(datatype)
    document = infer(typed.port, "typed", {"inputs": typed_inputs(**{datatype.lower(): values})})
    output = next(o for o in document["outputs"] if o["name"] == f"{datatype.lower()}_out")
    assert (output["datatype"], output["shape"]) == (datatype, [1, 2])
    assert (
        np.array(output["data"], DTYPES[datatype]).tolist()
        == np.array(values, DTYPES[datatype]).tolist()
    )


def _limits(datatype: str) -> list[int]:
    bits = int(datatype.lstrip("UINT"))
    return (
        [0, 2**bits - 1] if datatype.startswith("U") else [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1]
    )


def test_int64_exact(typed: Platform) -> None:
    values = [4611686018427387904, 9007199254740993]
    document = infer(typed.port, "typed", {"inputs": typed_inputs(int64=values)})
    assert next(o for o in document["outputs"] if o["name"] == "int64_out")["data"] == values


def test_uint8_overflow_400(typed: Platform) -> None:
    said = post(typed.port, "/v2/models/typed/infer", {"inputs": typed_inputs(uint8=[1, 300])})
    assert refused(said, 400, "bad_request")


def test_fp16_json_ok(typed: Platform) -> None:
    document = infer(typed.port, "typed", {"inputs": typed_inputs(fp16=[1.0, 2.0])})
    assert next(o for o in document["outputs"] if o["name"] == "fp16_out")["data"] == [1.0, 2.0]


@pytest.mark.parametrize("token", [b"NaN", b"Infinity", b"-Infinity"])
def test_nan_json_ok(typed: Platform, token: bytes) -> None:
    body = orjson.dumps(wide(np.full((1, 1), 7.0, np.float32))).replace(b"7.0", token)
    said = post(typed.port, "/v2/models/wide/infer", body)
    assert said.status == 200
    assert [output["data"] for output in said.json["outputs"]] == [[None], [None]]


@pytest.mark.parametrize("datatype", ["fp16", "fp32", "fp64"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_nan_binary_roundtrip(typed: Platform, datatype: str, number: float) -> None:
    said = _post_binary(typed.port, "typed", datatype, number)
    header, tail = split(said)
    assert header["outputs"][0]["name"] == f"{datatype}_out"
    assert tail == np.array([1, number], DTYPES[datatype.upper()]).tobytes()


@pytest.mark.parametrize("datatype", ["fp16", "fp32", "fp64"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_nan_400_where_finite(typed: Platform, datatype: str, number: float) -> None:
    assert refused(_post_binary(typed.port, "finite", datatype, number), 400, "non_finite_input")
    assert _post_binary(typed.port, "finite", datatype, 2.0).status == 200


def _post_binary(port: int, model: str, datatype: str, number: float) -> HttpAnswer:
    """1 and `number` as raw bytes in the input of this datatype, whose output is wanted as raw
    bytes.
    """
    tail = np.array([1, number], DTYPES[datatype.upper()]).tobytes()
    inputs = typed_inputs()
    (sent,) = [each for each in inputs if each["name"] == datatype]
    del sent["data"]
    sent["parameters"] = {"binary_data_size": len(tail)}
    wanted = [{"name": f"{datatype}_out", "parameters": {"binary_data": True}}]
    header = orjson.dumps({"inputs": inputs, "outputs": wanted})
    length = {"Inference-Header-Content-Length": str(len(header))}
    return post(port, f"/v2/models/{model}/infer", header + tail, length)


@pytest.mark.zoo
def test_bytes_utf8_json(served: Platform) -> None:
    texts = {"inputs": [tensor("text", [2], ["wikipedia.org", "bücher.de"], "BYTES")]}
    assert infer(served.port, "dga-lstm", texts)["outputs"][0]["shape"] == [2, 2]


@pytest.mark.zoo
def test_bytes_binary_nonutf8(served: Platform) -> None:
    """Any bytes are an element: a photo is one."""
    raw = b"\xff\xd8\xff"
    element = len(raw).to_bytes(4, "little") + raw
    header = orjson.dumps(
        {
            "inputs": [
                {
                    "name": "photo",
                    "shape": [1],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": len(element)},
                }
            ]
        }
    )
    said = post(
        served.port,
        "/v2/models/efficientnet-lite0/infer",
        header + element,
        {"Inference-Header-Content-Length": str(len(header))},
    )
    assert refused(said, 400, "bad_image")
