import tomllib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from tests.models import graphs
from tests.models.graphs import FLOAT_X, FLOAT_Y, Value, node

from headrace_models.add import add
from headrace_models.errors import BadSpec
from headrace_models.repository import read_version, verify

Save = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save a model of some nodes and constants; returns its file."""
    return partial(graphs.save, tmp_path / "given.onnx")


def _document(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "model.toml").read_text(encoding="utf-8"))


def test_a_model_describes_itself(save: Save, root: Path) -> None:
    file = save(
        [node("Cast", "ids", "y", to=TensorProto.FLOAT), node("Identity", "half", "z")],
        [("ids", TensorProto.INT64, ["n", "length"]), ("half", TensorProto.FLOAT16, ["n", 2, 4])],
        [("y", TensorProto.FLOAT, ["n", "length"]), ("z", TensorProto.FLOAT16, ["n", 2, 4])],
    )
    folder = add(file, "mine", root)
    document = _document(folder)
    assert folder == root / "mine" / "1"
    assert document["inputs"] == [
        {"name": "ids", "datatype": "INT64", "shape": [-1]},
        {"name": "half", "datatype": "FP16", "shape": [2, 4]},
    ]
    assert document["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [-1]},
        {"name": "z", "datatype": "FP16", "shape": [2, 4]},
    ]
    assert document["batching"] == {"max_rows": 64, "tolerance": 0.01}  # half precision rounds
    assert (folder / "model.onnx").read_bytes() == file.read_bytes()
    verify(read_version(folder))


def test_a_batch_size_baked_into_the_file_is_kept(save: Save, root: Path) -> None:
    file = save([node("Relu")], [("x", TensorProto.FLOAT, [8, 3])], [("y", TensorProto.FLOAT, [8, 3])])
    spec = read_version(add(file, "mine", root)).spec
    assert (spec.is_batched, spec.inputs[0].whole_shape, spec.outputs[0].whole_shape) == (False, (8, 3), (8, 3))


def test_golden_answers_are_those_of_the_model_to_noise(save: Save, root: Path) -> None:
    folder = add(save([node("Relu")]), "mine", root)
    with np.load(folder / "golden.npz", allow_pickle=False) as golden:
        assert len(np.unique(golden["input:x"])) == 9
        assert np.array_equal(golden["output:y"], np.maximum(golden["input:x"], 0))


@pytest.mark.parametrize("kind", ["Sqrt", "Log"])
def test_golden_inputs_are_such_as_the_model_bears(save: Save, root: Path, kind: str) -> None:
    """Of negative numbers neither is a number, and the logarithm of zero is infinite."""
    folder = add(save([node(kind)]), "mine", root)
    with np.load(folder / "golden.npz", allow_pickle=False) as golden:
        assert (golden["input:x"] > 0).all()
    assert read_version(folder).spec.is_batched


def test_adding_the_same_file_again_changes_nothing(save: Save, root: Path) -> None:
    file = save([node("Relu")])
    before = (add(file, "mine", root) / "model.toml").stat()
    assert (add(file, "mine", root) / "model.toml").stat().st_mtime_ns == before.st_mtime_ns


def test_another_file_under_the_same_version_is_refused(save: Save, root: Path) -> None:
    add(save([node("Relu")]), "mine", root)
    with pytest.raises(BadSpec, match=r"this version exists: expected SHA-256 .* found .*; choose another version"):
        add(save([node("Tanh")]), "mine", root)
    assert add(save([node("Tanh")]), "mine", root, "2") == root / "mine" / "2"


UNFIT: dict[str, tuple[Sequence[onnx.NodeProto], Sequence[Value], Sequence[Value], str]] = {
    "complex numbers": (
        [node("Identity")],
        [("x", TensorProto.COMPLEX64, ["n"])],
        [("y", TensorProto.COMPLEX64, ["n"])],
        r"tensor\(complex64\)",
    ),
    "a sequence": (
        [node("SplitToSequence", "x", "y", axis=1)],
        [FLOAT_X],
        [("y", None, None)],
        r'output "y": expected a tensor of numbers, booleans or texts, found seq\(tensor\(float\)\)',
    ),
    "nothing to go in": (
        [node("Constant", "", "y", value_floats=[1.0, 2.0])],
        [],
        [("y", TensorProto.FLOAT, [2])],
        "expected inputs, found none",
    ),
    "chance": (
        [node("RandomNormalLike")],
        [FLOAT_X],
        [FLOAT_Y],
        'output "y": expected the same answer twice, found two answers',
    ),
}


@pytest.mark.parametrize("what", UNFIT)
def test_a_model_that_cannot_be_served_is_refused_and_leaves_nothing(save: Save, root: Path, what: str) -> None:
    nodes, inputs, outputs, complaint = UNFIT[what]
    file = save(nodes, inputs, outputs)
    with pytest.raises(BadSpec, match=complaint) as caught:
        add(file, "mine", root)
    assert caught.value.place == str(file)
    assert list(root.iterdir()) == []


def test_a_model_that_gives_no_number_for_noise_nor_zeros_is_refused(save: Save, root: Path) -> None:
    file = save([node("Div", "x zero", "y")], zero=np.float32(0))
    with pytest.raises(BadSpec, match='output "y": expected finite numbers for zeros'):
        add(file, "mine", root)


def test_a_model_that_fails_on_zeros_is_refused(save: Save, root: Path) -> None:
    file = save([node("Reshape", "x shape", "y")], shape=[7, 11])
    with pytest.raises(BadSpec, match=r"expected an answer to zeros or noise of some length, found: .*Reshape"):
        add(file, "mine", root)


def test_weights_left_in_another_file_are_missed(save: Save, root: Path) -> None:
    file = save([node("Add", "x big")], big=np.ones((64, 3), np.float32)[:1])
    model = onnx.load(file)
    onnx.save(model, file, save_as_external_data=True, size_threshold=0, location="weights.bin")
    assert (file.parent / "weights.bin").is_file()
    with pytest.raises(BadSpec, match="expected one file with its weights inside, found weights kept in other files"):
        add(file, "mine", root)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, root: Path) -> None:
    file = tmp_path / "given.onnx"
    file.write_bytes(b"not a model")
    with pytest.raises(BadSpec, match=r"expected a model that ONNX Runtime can open, found: .*given"):
        add(file, "mine", root)
    with pytest.raises(BadSpec, match="expected an ONNX file, found none"):
        add(tmp_path / "nowhere.onnx", "mine", root)


@pytest.mark.parametrize(("name", "version"), [("../mine", "1"), ("mine", "../1"), ("", "1"), (".mine", "1")])
def test_a_name_that_leaves_the_repository_is_refused(save: Save, root: Path, name: str, version: str) -> None:
    with pytest.raises(BadSpec, match="expected letters, digits"):
        add(save([node("Relu")]), name, root, version)


def test_what_was_added_answers_as_the_file_did(save: Save, root: Path) -> None:
    file = save([node("Softmax")])
    x = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    answers = [
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for path in (file, add(file, "mine", root) / "model.onnx")
    ]
    assert np.array_equal(*answers)
