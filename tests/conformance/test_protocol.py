"""The Open Inference Protocol v2 over REST, point by point."""

import numpy as np
import pytest
from tests.conformance.talk import get, infer, post, refused, tensor, wide
from tests.platform.running import Platform

pytestmark = pytest.mark.ray

INFER = "/v2/models/wide/infer"
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_v2_root(typed: Platform, path: str) -> None:
    document = get(typed.port, path).json
    assert document["name"] == "headrace"
    assert isinstance(document["version"], str)
    assert all(isinstance(extension, str) for extension in document["extensions"])
    assert "binary_tensor_data" in document["extensions"]


def test_live(typed: Platform) -> None:
    said = get(typed.port, "/v2/health/live")
    assert (said.status, said.json) == (200, {"live": True})


def test_ready(typed: Platform) -> None:
    said = get(typed.port, "/v2/health/ready")
    assert (said.status, said.json) == (200, {"ready": True})


@pytest.mark.parametrize("path", ["/v2/models/wide/ready", "/v2/models/wide/versions/1/ready"])
def test_model_ready(typed: Platform, path: str) -> None:
    said = get(typed.port, path)
    assert (said.status, said.json) == (200, {"name": "wide", "ready": True})


def test_model_ready_unknown_404(typed: Platform) -> None:
    assert refused(get(typed.port, "/v2/models/nobody/ready"), 404, "model_not_found")


@pytest.mark.parametrize("path", ["/v2/models/wide", "/v2/models/wide/versions/1"])
def test_metadata_shapes_have_batch_dim(typed: Platform, path: str) -> None:
    document = get(typed.port, path).json
    assert document["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]
    assert [output["shape"] for output in document["outputs"]] == [[-1, -1], [-1, -1]]
    assert isinstance(document["platform"], str)


@pytest.mark.zoo
@pytest.mark.parametrize("model", ["minilm-l6", "mail-spam", "dga-lstm"])
def test_metadata_of_a_model_that_reads_text_has_the_text(served: Platform, model: str) -> None:
    (listed,) = get(served.port, f"/v2/models/{model}").json["inputs"]
    assert listed == {"name": "text", "datatype": "BYTES", "shape": [-1, 1]}
    (config,) = get(served.port, f"/v2/models/{model}/config").json["input"]
    assert (config["name"], config["data_type"], config["dims"]) == ("text", "TYPE_STRING", [1])
    sent = [tensor("text", [2, 1], ["one.org", "two.org"], "BYTES")]
    assert [
        each["shape"][0] for each in infer(served.port, model, {"inputs": sent})["outputs"]
    ] == [2]


def test_metadata_versions(typed: Platform) -> None:
    assert get(typed.port, "/v2/models/wide").json["versions"] == ["1"]


def test_infer_flat(typed: Platform) -> None:
    document = infer(typed.port, "wide", wide(ROWS))
    assert (document["model_name"], document["model_version"]) == ("wide", "1")
    outputs = {output["name"]: output for output in document["outputs"]}
    assert outputs["twice"]["data"] == (ROWS * 2).ravel().tolist()
    assert (outputs["square"]["shape"], outputs["square"]["datatype"]) == ([2, 3], "FP32")


def test_infer_nested(typed: Platform) -> None:
    document = infer(typed.port, "wide", {"inputs": [tensor("x", [2, 3], ROWS.tolist())]})
    assert document["outputs"][0]["data"] == (ROWS * 2).ravel().tolist()


def test_infer_flat_equals_nested(typed: Platform) -> None:
    flat = post(typed.port, INFER, wide(ROWS))
    nested = post(typed.port, INFER, {"inputs": [tensor("x", [2, 3], ROWS.tolist())]})
    assert flat.body == nested.body


@pytest.mark.parametrize("name", ["a", "0", "Grüße 42", "x" * 64])
def test_infer_id_echo(typed: Platform, name: str) -> None:
    assert infer(typed.port, "wide", wide(ROWS, id=name))["id"] == name


def test_infer_id_absent(typed: Platform) -> None:
    assert "id" not in infer(typed.port, "wide", wide(ROWS))
    assert "id" not in infer(typed.port, "wide", wide(ROWS, id=""))


@pytest.mark.parametrize("names", [["square"], ["twice"], ["square", "twice"]])
def test_infer_output_subset_and_order(typed: Platform, names: list[str]) -> None:
    document = infer(typed.port, "wide", wide(ROWS, outputs=[{"name": name} for name in names]))
    assert [output["name"] for output in document["outputs"]] == names


def test_infer_unknown_output_400(typed: Platform) -> None:
    assert refused(
        post(typed.port, INFER, wide(ROWS, outputs=[{"name": "cube"}])), 400, "bad_request"
    )


def test_infer_missing_input_400(typed: Platform) -> None:
    one_of_12 = {"inputs": [tensor("fp32", [1, 2], [1, 1])]}
    assert refused(post(typed.port, "/v2/models/typed/infer", one_of_12), 400, "bad_request")


def test_infer_extra_input_400(typed: Platform) -> None:
    more = {"inputs": [tensor("x", [1, 1], [1]), tensor("z", [1, 1], [1])]}
    assert refused(post(typed.port, INFER, more), 400, "bad_request")


def test_dtype_mismatch_400(typed: Platform) -> None:
    assert refused(
        post(typed.port, INFER, {"inputs": [tensor("x", [1, 1], [1], "FP64")]}), 400, "bad_request"
    )


@pytest.mark.parametrize("data", [[1, 2], [1, 2, 3, 4], []])
def test_count_mismatch_400_not_500(typed: Platform, data: list[int]) -> None:
    assert refused(
        post(typed.port, INFER, {"inputs": [tensor("x", [1, 3], data)]}), 400, "bad_request"
    )


def test_zero_size_tensor(typed: Platform) -> None:
    """No rows in, no rows out; a variable axis has an element at least, as models demand."""
    document = infer(typed.port, "wide", {"inputs": [tensor("x", [0, 3], [])]})
    assert [(o["shape"], o["data"]) for o in document["outputs"]] == [([0, 0], []), ([0, 0], [])]
    assert refused(
        post(typed.port, "/v2/models/wide/infer", {"inputs": [tensor("x", [1, 0], [])]}),
        400,
        "bad_request",
    )


def test_scalar_shape(typed: Platform) -> None:
    """Every input here has rows on its first axis, so a scalar is none of them."""
    assert refused(post(typed.port, INFER, {"inputs": [tensor("x", [], [1])]}), 400, "bad_request")


def test_two_data_sources_400(typed: Platform) -> None:
    both = tensor("x", [1, 1], [1], parameters={"binary_data_size": 4})
    assert refused(post(typed.port, INFER, {"inputs": [both]}), 400, "bad_request")


def test_no_data_source_400(typed: Platform) -> None:
    neither = {"name": "x", "shape": [1, 1], "datatype": "FP32"}
    assert refused(post(typed.port, INFER, {"inputs": [neither]}), 400, "bad_request")


@pytest.mark.parametrize("body", [b"", b"{", b"null", b'{"inputs":[]'])
def test_bad_json_400(typed: Platform, body: bytes) -> None:
    assert refused(post(typed.port, INFER, body), 400, "bad_json")


def test_unknown_fields_are_ignored(typed: Platform) -> None:
    assert (
        infer(typed.port, "wide", wide(ROWS, model_name="other", colour=[1]))["model_name"]
        == "wide"
    )


def test_wrong_verb_405_json(typed: Platform) -> None:
    said = get(typed.port, INFER)
    assert refused(said, 405, "method_not_allowed")
    assert "POST" in said.headers["allow"]


def test_unknown_path_404_json(typed: Platform) -> None:
    assert refused(get(typed.port, "/v2/nowhere"), 404, "not_found")


def test_too_large_413(typed: Platform) -> None:
    said = post(typed.port, INFER, b" " * (16 * 1024 * 1024 + 1))
    assert refused(said, 413, "body_too_large")
    assert "16777216" in said.json["error"]


def test_version_in_url(typed: Platform) -> None:
    assert (
        post(typed.port, "/v2/models/wide/versions/1/infer", wide(ROWS)).json["model_version"]
        == "1"
    )


def test_unknown_version_404(typed: Platform) -> None:
    assert refused(
        post(typed.port, "/v2/models/wide/versions/2/infer", wide(ROWS)), 404, "version_not_found"
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/nowhere"),
        ("GET", "/v2/models/nobody"),
        ("GET", "/v2/models/nobody/config"),
        ("GET", "/v2/models/nobody/stats"),
        ("GET", "/v2/models/wide/versions/9"),
        ("POST", "/v2/models/nobody/infer"),
        ("POST", "/v2/models/wide/infer"),
        ("POST", "/v2/models/wide/generate"),
        ("POST", "/v2/health/live"),
        ("POST", "/v1/models/nobody:predict"),
        ("POST", "/v1/models/wide:predict"),
        ("POST", "/v1/models/wide:classify"),
    ],
)
def test_error_is_string_everywhere(typed: Platform, method: str, path: str) -> None:
    said = get(typed.port, path) if method == "GET" else post(typed.port, path, b"no JSON")
    assert refused(said, said.status)
    assert 400 <= said.status < 500
