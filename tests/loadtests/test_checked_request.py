"""Right answers of a user's own model: its golden rows, or its answers to single requests."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import orjson
import pytest
from loadtests.support.doubler import make_doubler
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform

from headrace.inference.tensor import Array, Tensor, from_array
from headrace.loadtest.any_model import golden_requests, made_up_requests
from headrace.loadtest.checked_request import CheckedRequest, infer_request, tensors_request
from headrace.loadtest.server import call
from headrace_models.errors import ModelError
from headrace_models.repository import read_version

X, Y = np.ones((2, 3), np.float32), np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
TEXTS = np.array([b"a", b"\xff"], object)


def answer(outputs: Mapping[str, Array], model: str = "m") -> bytes:
    tensors = [from_array(name, array) for name, array in outputs.items()]
    header = orjson.dumps(
        {"model_name": model, "outputs": [described(tensor) for tensor in tensors]}
    )
    return header + b"".join(tensor.data for tensor in tensors)


def described(tensor: Tensor) -> dict[str, object]:
    size = {"binary_data_size": len(tensor.data)}
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.shape,
        "parameters": size,
    }


RIGHT = {"y": Y, "t": TEXTS}
SHOT = tensors_request("m", {"x": X}, RIGHT, 1e-4)


def test_the_expected_answer_is_right_and_so_is_one_within_the_tolerance() -> None:
    assert SHOT.accepts(answer(RIGHT))
    assert SHOT.accepts(answer({**RIGHT, "y": Y * np.float32(1 + 5e-5)}))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(answer({**RIGHT, "y": Y * np.float32(1.01)}), id="other numbers"),
        pytest.param(answer({**RIGHT, "y": np.full_like(Y, np.nan)}), id="NaN"),
        pytest.param(answer({**RIGHT, "y": Y[::-1]}), id="swapped rows"),
        pytest.param(answer({**RIGHT, "y": Y[:1]}), id="too few rows"),
        pytest.param(answer({**RIGHT, "y": Y.astype(np.float64)}), id="another datatype"),
        pytest.param(answer({**RIGHT, "t": TEXTS[::-1]}), id="swapped texts"),
        pytest.param(answer({"y": Y}), id="an output missing"),
        pytest.param(answer(RIGHT, "n"), id="another model's"),
        pytest.param(answer(RIGHT)[:-1], id="truncated data"),
        pytest.param(answer(RIGHT)[:40], id="truncated header"),
        pytest.param(answer(RIGHT) + b"x", id="data left over"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"outputs": [7], "model_name": "m"}', id="no outputs"),
    ],
)
def test_wrong_answers_are_found_out(wrong: bytes) -> None:
    assert not SHOT.accepts(wrong)


@pytest.mark.parametrize("data", [[1.0, None], [1.0], [2.0, 1.0], []])
def test_wrong_json_answers_are_found_out(data: list[float | None]) -> None:
    request = infer_request("m", {"x": X}, "y", np.array([[1.0, 2.0]], np.float32))
    assert request.accepts(orjson.dumps({"outputs": [{"name": "y", "data": [1.0, 2.0]}]}))
    assert not request.accepts(orjson.dumps({"outputs": [{"name": "y", "data": data}]}))


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[InProcessPlatform, str, Path]]:
    """The doubler, its address, its repository."""
    folder = tmp_path_factory.mktemp("served")
    with in_process_platform(folder) as running:
        yield running, f"http://127.0.0.1:{running.port}", folder / "repository"


def answered(url: str, request: CheckedRequest) -> bytes:
    return call(url, request.path, request.headers, request.body).body


def test_each_golden_row_has_its_own_right_answer(
    served: tuple[InProcessPlatform, str, Path],
) -> None:
    _, url, repository = served
    requests = golden_requests(url, "doubler", repository)
    answers = [answered(url, request) for request in requests]
    assert len(requests) > 1
    assert [[request.accepts(a) for a in answers] for request in requests] == np.eye(
        len(requests), dtype=bool
    ).tolist()


def test_without_its_repository_a_model_is_held_to_what_it_answers_alone(
    served: tuple[InProcessPlatform, str, Path],
) -> None:
    _, url, _ = served
    requests = made_up_requests(url, "doubler")
    answers = [answered(url, request) for request in requests]
    assert [[request.accepts(a) for a in answers] for request in requests] == np.eye(
        len(requests), dtype=bool
    ).tolist()


def test_a_repository_without_the_model_or_with_another_version_is_said(
    served: tuple[InProcessPlatform, str, Path], tmp_path: Path
) -> None:
    _, url, _ = served
    with pytest.raises(ModelError, match="expected a sound version of doubler"):
        golden_requests(url, "doubler", tmp_path)
    made = read_version(make_doubler(tmp_path, tmp_path))
    manifest = made.path("model.toml")
    manifest.write_text(
        manifest.read_text(encoding="utf-8").replace('version = "1"', 'version = "2"'), "utf-8"
    )
    made.folder.rename(made.folder.with_name("2"))
    with pytest.raises(ModelError, match="expected version 1 of doubler, as served, found 2"):
        golden_requests(url, "doubler", tmp_path)


def test_a_model_that_bears_no_made_up_input_is_said(
    served: tuple[InProcessPlatform, str, Path],
) -> None:
    _, url, _ = served
    with pytest.raises(ModelError, match="cannot read its metadata: 404, "):
        made_up_requests(url, "nosuch")
