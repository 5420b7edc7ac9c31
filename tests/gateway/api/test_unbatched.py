"""Models that are served one request at a time, through every endpoint: real gateway, channel,
batcher and runtime.
"""

import base64
import os
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from loadtests.support.checkout import REPOSITORY
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform
from tests.models.graphs import FLOAT, FLOAT_X, FLOAT_Y, INT64, Value, node, save

from headrace_models.add import add
from headrace_models.errors import BadSpec
from headrace_models.publishing import Draft, write_version
from headrace_models.repository import read_version


@contextmanager
def serving(
    folder: Path, nodes: Any, inputs: list[Value], outputs: list[Value], **constants: Any
) -> Iterator[InProcessPlatform]:
    """The model `m` of these nodes, as `models add` would have it."""

    def make(folder: Path, repository: Path) -> Path:
        return add(
            save(folder / "given.onnx", nodes, inputs, outputs, **constants), "m", repository
        )

    with in_process_platform(folder, make=make) as running:
        yield running


def tensor(name: str, array: "np.ndarray", datatype: str = "FP32") -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": datatype,
        "data": array.ravel().tolist(),
    }


def floats(values: object) -> "np.ndarray":
    return np.array(values, np.float32)


def infer(running: InProcessPlatform, *tensors: dict[str, Any], **more: Any) -> tuple[int, Any]:
    return running.ask("POST", "/v2/models/m/infer", orjson.dumps({"inputs": tensors, **more}))[:2]


def post(running: InProcessPlatform, path: str, body: object) -> tuple[int, Any]:
    return running.ask("POST", path, orjson.dumps(body), {"Content-Type": "application/json"})[:2]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    """Queries `q` [n, 4] and documents `d` [m, 4] -> scores `y` [n, m]."""
    nodes = [node("Transpose", "d", "t", perm=[1, 0]), node("MatMul", "q t")]
    inputs: list[Value] = [("q", FLOAT, ["n", 4]), ("d", FLOAT, ["m", 4])]
    with serving(
        tmp_path_factory.mktemp("pairs"), nodes, inputs, [("y", FLOAT, ["n", "m"])]
    ) as running:
        yield running


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    """`x` [n, 3] times a number `s` -> `y` [n, 3], and `total`, a number."""
    nodes = [node("Mul", "x s"), node("ReduceSum", "y", "total", keepdims=0)]
    outputs: list[Value] = [FLOAT_Y, ("total", FLOAT, [])]
    with serving(
        tmp_path_factory.mktemp("scaled"), nodes, [FLOAT_X, ("s", FLOAT, [])], outputs
    ) as running:
        yield running


def test_inputs_may_have_different_first_axes(pairs: InProcessPlatform) -> None:
    q, d = floats([[1, 0, 0, 0], [0, 2, 0, 0]]), np.arange(12, dtype=np.float32).reshape(3, 4)
    status, answer = infer(pairs, tensor("q", q), tensor("d", d))
    assert (status, answer["outputs"][0]["shape"]) == (200, [2, 3])
    assert answer["outputs"][0]["data"] == [0, 4, 8, 2, 10, 18]


def test_callers_at_the_same_time_get_nothing_of_each_others(pairs: InProcessPlatform) -> None:
    def one(seed: int) -> tuple[int, Any, "np.ndarray"]:
        random = np.random.default_rng(seed)
        q, d = (
            random.integers(-9, 9, (1 + k % 3, 4)).astype(np.float32) for k in (seed, seed // 3)
        )
        status, answer = infer(pairs, tensor("q", q), tensor("d", d))
        return status, answer, q @ d.T

    with ThreadPoolExecutor(24) as callers:
        for status, answer, expected in callers.map(one, range(48)):
            assert status == 200
            found = answer["outputs"][0]
            assert (found["shape"], found["data"]) == (
                list(expected.shape),
                expected.ravel().tolist(),
            )


def test_binary_tensors_go_in_and_out_as_they_are(pairs: InProcessPlatform) -> None:
    q, d = np.ones((2, 4), np.float32), np.ones((3, 4), np.float32)
    sized = [
        {**tensor(n, a), "parameters": {"binary_data_size": a.nbytes}}
        for n, a in (("q", q), ("d", d))
    ]
    for item in sized:
        del item["data"]
    header = orjson.dumps({"inputs": sized, "parameters": {"binary_data_output": True}})
    headers = {"Inference-Header-Content-Length": str(len(header))}
    for _ in range(2):  # the second time the header is known
        status, body, told = pairs.ask(
            "POST", "/v2/models/m/infer", header + q.tobytes() + d.tobytes(), headers
        )
        split = int(told["inference-header-content-length"])
        assert (status, orjson.loads(body[:split])["outputs"][0]["shape"]) == (200, [2, 3])
        assert np.frombuffer(body[split:], np.float32).tolist() == [4.0] * 6


def test_metadata_and_configuration_have_all_axes_and_say_that_there_are_no_batches(
    scaled: InProcessPlatform,
) -> None:
    metadata = scaled.ask("GET", "/v2/models/m")[1]
    assert [t["shape"] for t in (*metadata["inputs"], *metadata["outputs"])] == [
        [-1, 3],
        [],
        [-1, 3],
        [],
    ]
    config = scaled.ask("GET", "/v2/models/m/config")[1]
    assert (config["max_batch_size"], "dynamic_batching" in config) == (0, False)
    assert [t["dims"] for t in (*config["input"], *config["output"])] == [[-1, 3], [], [-1, 3], []]
    signature = scaled.ask("GET", "/v1/models/m/metadata")[1]["metadata"]["signature_def"][
        "signature_def"
    ]
    assert signature["serving_default"]["inputs"]["s"]["tensor_shape"]["dim"] == []


def test_a_scalar_has_no_axes(scaled: InProcessPlatform) -> None:
    x, s = floats([[1, 2, 3]]), floats(2)
    status, answer = infer(scaled, tensor("x", x), tensor("s", s))
    assert (status, [(o["shape"], o["data"]) for o in answer["outputs"]]) == (
        200,
        [([1, 3], [2, 4, 6]), ([], [12])],
    )
    status, refused = infer(scaled, tensor("x", x), tensor("s", s.reshape(1)))
    assert (status, refused["error"]) == (400, "inputs[1].shape: expected 0 axes [], found 1")


def test_nothing_at_all_is_no_request_of_a_model_without_batches(scaled: InProcessPlatform) -> None:
    status, refused = infer(
        scaled, tensor("x", np.zeros((0, 3), np.float32)), tensor("s", floats(2))
    )
    assert (status, refused["error"]) == (
        400,
        "inputs[0].shape: axis 0: expected 1 or more, found 0",
    )


def test_predict_takes_tables_and_refuses_rows_where_there_are_none(
    scaled: InProcessPlatform,
) -> None:
    assert post(scaled, "/v1/models/m:predict", {"inputs": {"x": [[1, 2, 3]], "s": 3}}) == (
        200,
        {"outputs": {"y": [[3, 6, 9]], "total": 18}},
    )
    status, refused = post(
        scaled, "/v1/models/m:predict", {"instances": [{"x": [1, 2, 3], "s": 3}]}
    )
    assert (status, refused["error"]) == (400, "inputs[1].shape: expected 0 axes [], found 1")


def test_generate_takes_and_gives_plain_numbers(scaled: InProcessPlatform) -> None:
    status, answer = post(scaled, "/v2/models/m/generate", {"x": [1, 2, 3], "s": 4})
    assert (status, answer["y"], answer["total"]) == (200, [4, 8, 12], 24)


def test_statistics_count_requests(scaled: InProcessPlatform) -> None:
    def told() -> dict[str, Any]:
        stats: dict[str, Any] = scaled.ask("GET", "/v2/models/m/stats")[1]["model_stats"][0]
        return stats

    before = told()
    assert infer(scaled, tensor("x", np.ones((5, 3), np.float32)), tensor("s", floats(1)))[0] == 200
    after = told()
    assert [after[n] - before[n] for n in ("inference_count", "execution_count")] == [1, 1]
    assert [size["batch_size"] for size in after["batch_stats"]] == [1]


def test_row_predictions_are_refused_where_the_outputs_are_no_rows(tmp_path: Path) -> None:
    nodes = [node("ReduceSum", "x", "total", keepdims=0), node("Relu")]
    with serving(tmp_path, nodes, [FLOAT_X], [("total", FLOAT, []), FLOAT_Y]) as running:
        status, refused = post(running, "/v1/models/m:predict", {"instances": [[1, 2, 3]]})
        assert (status, refused["error"]) == (
            400,
            "instances: the model's outputs are not rows; send its inputs by name, in inputs",
        )
        assert (
            post(running, "/v1/models/m:predict", {"inputs": [[1, 2, 3]]})[1]["outputs"]["total"]
            == 6
        )


def test_raw_bytes_are_the_whole_input(tmp_path: Path) -> None:
    with serving(
        tmp_path, [node("Softmax", axis=0)], [("x", FLOAT, [4])], [("y", FLOAT, [4])]
    ) as running:
        headers = {"Inference-Header-Content-Length": "0"}
        status, body, told = running.ask(
            "POST", "/v2/models/m/infer", struct.pack("<4f", 0, 0, 0, 0), headers
        )
        split = int(told["inference-header-content-length"])
        assert (status, struct.unpack("<4f", body[split:])) == (200, (0.25, 0.25, 0.25, 0.25))
        classes = {"name": "y", "parameters": {"classification": 2}}
        _, answer = infer(running, tensor("x", floats([1, 2, 3, 4])), outputs=[classes])
        assert (
            answer["outputs"][0]["shape"],
            [c.split(":")[1] for c in answer["outputs"][0]["data"]],
        ) == (
            [2],
            ["3", "2"],
        )


def test_a_fixed_batch_has_its_own_size_and_no_other(tmp_path: Path) -> None:
    with serving(
        tmp_path, [node("Relu")], [("x", FLOAT, [2, 3])], [("y", FLOAT, [2, 3])]
    ) as running:
        rows = [[1, 2, 3], [4, 5, 6]]
        assert post(running, "/v1/models/m:predict", {"instances": rows}) == (
            200,
            {"predictions": rows},
        )
        status, refused = infer(running, tensor("x", np.ones((1, 3), np.float32)))
        assert (status, refused["error"]) == (400, "inputs[0].shape: axis 0: expected 2, found 1")


Serve = Callable[..., AbstractContextManager[InProcessPlatform]]


@pytest.fixture
def forced(tmp_path: Path) -> Serve:
    """Serve a model that was added, with one line of its spec flipped by hand."""

    @contextmanager
    def forced(kind: str, rows: str, **attributes: Any) -> Iterator[InProcessPlatform]:
        def make(folder: Path, repository: Path) -> Path:
            version = add(save(folder / "given.onnx", [node(kind, **attributes)]), "m", repository)
            path = version / "model.toml"
            lines = [
                line for line in path.read_text().splitlines() if not line.startswith("rows = ")
            ]
            path.write_text("\n".join(lines).replace("[batching]", f'[batching]\nrows = "{rows}"'))
            return version

        with in_process_platform(tmp_path, make=make) as running:
            yield running

    return forced


def test_rows_are_what_one_line_of_the_spec_says_they_are(forced: Serve) -> None:
    with forced("Relu", "none") as running:
        assert running.ask("GET", "/v2/models/m/config")[1]["max_batch_size"] == 0
        assert infer(running, tensor("x", np.ones((2, 3), np.float32)))[1]["outputs"][0][
            "shape"
        ] == [2, 3]


def test_a_model_whose_rows_interact_is_batched_at_the_users_word(forced: Serve) -> None:
    with forced("Softmax", "independent", axis=0) as running:
        config = running.ask("GET", "/v2/models/m/config")[1]
        assert (config["max_batch_size"], config["input"][0]["dims"]) == (64, [3])


def make_speller(folder: Path, repository: Path) -> Path:
    """A model of texts without rows: how often each of "abc" is in it, less the mean, and the
    number of characters.
    """
    nodes = [
        node("OneHot", "ids depth values", "hot"),
        node("ReduceSum", "hot ends", "counts", keepdims=0),
        node("ReduceMean", "counts", "mean", keepdims=0),
        node("Sub", "counts mean", "scores"),
        node("Shape", "ids", "length"),
    ]

    def make(making: Path) -> Draft:
        save(
            making / "model.onnx",
            nodes,
            [("ids", INT64, [1, "t"])],
            [("scores", FLOAT, [4]), ("length", INT64, [2])],
            depth=np.int64(4),
            values=floats([0, 1]),
            ends=np.array([0, 1]),
        )
        (making / "labels.txt").write_text("other\na\nb\nc\n")
        document: dict[str, object] = {
            "name": "m",
            "version": "1",
            "task": "classify",
            "weights": {"onnx": "model.onnx"},
            "inputs": [{"name": "ids", "datatype": "INT64", "shape": [1, -1], "has_rows": False}],
            "outputs": [
                {
                    "name": "scores",
                    "datatype": "FP32",
                    "shape": [4],
                    "has_rows": False,
                    "labels": "labels.txt",
                },
                {"name": "length", "datatype": "INT64", "shape": [2], "has_rows": False},
            ],
            "preprocess": {
                "kind": "characters",
                "output": "ids",
                "alphabet": "_abc",
                "max_chars": 8,
            },
        }
        return Draft(document, {"ids": np.array([[1, 2, 3]])})

    return write_version(repository, "m", "1", make)


def test_each_text_is_a_run_of_its_own_and_has_its_own_classes(tmp_path: Path) -> None:
    with in_process_platform(tmp_path, make=make_speller) as running:
        status, answer = post(
            running, "/v1/models/m:classify", {"input": ["aab", "cc", "bbb"], "top_k": 1}
        )
        assert (status, [row[0]["label"] for row in answer["results"]]) == (200, ["a", "c", "b"])
        status, answer = post(running, "/v1/models/m:classify", {"input": "aab", "top_k": 1})
        assert (status, answer["results"][0][0]["label"]) == (200, "a")
        texts = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["ab", "cccc"]}
        _, answer = infer(running, texts, outputs=[{"name": "length"}])
        assert (answer["outputs"][0]["shape"], answer["outputs"][0]["data"]) == (
            [2, 2],
            [1, 2, 1, 4],
        )
        stats = running.ask("GET", "/v2/models/m/stats")[1]["model_stats"][0]
        assert stats["inference_count"] == 3 + 1 + 2
        encoded = base64.b64encode(b"cc").decode()
        status, answer = post(
            running, "/v1/models/m:predict", {"inputs": {"text": [{"b64": encoded}]}}
        )
        assert (status, answer["outputs"]["length"]) == (200, [1, 2])


@pytest.mark.zoo
def test_embeddings_are_the_same_one_text_at_a_time(tmp_path: Path) -> None:
    found = []
    for rows in ("independent", "none"):

        def make(_: Path, repository: Path, rows: str = rows) -> Path:
            version = repository / rows / "minilm-l6" / "1"
            shutil.copytree(
                (REPOSITORY / "minilm-l6" / "1").resolve(), version, copy_function=os.symlink
            )
            text = (
                (version / "model.toml")
                .read_text()
                .replace("[batching]", f'[batching]\nrows = "{rows}"')
            )
            (version / "model.toml").unlink()
            (version / "model.toml").write_text(text)
            return version

        with in_process_platform(tmp_path, make=make) as running:
            asked = {
                "model": "minilm-l6",
                "input": ["a short text", "a somewhat longer text than that"],
            }
            status, answer = post(running, "/v1/embeddings", asked)
            assert status == 200
            found.append([row["embedding"] for row in answer["data"]])
            assert (
                post(running, "/v1/embeddings", {**asked, "input": [[101, 7592, 102], [101, 102]]})[
                    0
                ]
                == 200
            )
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_a_spec_that_batches_what_has_no_rows_is_refused_with_its_line(tmp_path: Path) -> None:
    version = make_speller(tmp_path, tmp_path / "repository")
    path = version / "model.toml"
    path.write_text(
        path.read_text().replace("[files]", '[batching]\nrows = "independent"\n\n[files]')
    )
    line = path.read_text().splitlines().index("[batching]") + 1
    reason = (
        f'{path}:{line}: batching: rows: expected "none", as "ids" has no rows (has_rows = false)'
    )
    with pytest.raises(BadSpec, match=re.escape(reason)):
        read_version(version)
