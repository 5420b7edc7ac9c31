import sys
import tomllib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.models import graphs
from tests.models.graphs import FLOAT, FLOAT_X, FLOAT_Y, Value, node

from headrace import backends
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
    file = save(
        [node("Relu")], [("x", TensorProto.FLOAT, [8, 3])], [("y", TensorProto.FLOAT, [8, 3])]
    )
    spec = read_version(add(file, "mine", root)).spec
    assert (spec.is_batched, spec.inputs[0].whole_shape, spec.outputs[0].whole_shape) == (
        False,
        (8, 3),
        (8, 3),
    )


def test_golden_answers_are_those_of_the_model_to_noise(save: Save, root: Path) -> None:
    folder = add(save([node("Relu")]), "mine", root)
    with np.load(folder / "golden.npz", allow_pickle=False) as golden:
        assert len(np.unique(golden["input:x"])) == 9
        assert np.array_equal(golden["output:y"], np.maximum(golden["input:x"], 0))


@pytest.mark.parametrize("kind", ["Sqrt", "Log"])
def test_golden_inputs_are_such_as_the_model_bears(save: Save, root: Path, kind: str) -> None:
    """A model without finite answers: to negative numbers, or to zeros."""
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
    with pytest.raises(
        BadSpec, match=r"this version exists: expected SHA-256 .* found .*; choose another version"
    ):
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
        r'output "y": expected a tensor of numbers, booleans or texts, found '
        r"seq\(tensor\(float\)\)",
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
def test_a_model_that_cannot_be_served_is_refused_and_leaves_nothing(
    save: Save, root: Path, what: str
) -> None:
    nodes, inputs, outputs, complaint = UNFIT[what]
    file = save(nodes, inputs, outputs)
    with pytest.raises(BadSpec, match=complaint) as caught:
        add(file, "mine", root)
    assert caught.value.where == str(file)
    assert list(root.iterdir()) == []


def test_a_model_that_gives_no_number_for_noise_nor_zeros_is_refused(
    save: Save, root: Path
) -> None:
    file = save([node("Div", "x zero", "y")], zero=np.float32(0))
    with pytest.raises(BadSpec, match='output "y": expected finite numbers for zeros'):
        add(file, "mine", root)


def test_a_model_that_fails_on_zeros_is_refused(save: Save, root: Path) -> None:
    file = save([node("Reshape", "x shape", "y")], shape=[7, 11])
    with pytest.raises(
        BadSpec, match=r"expected an answer to zeros or noise of some length, found: .*Reshape"
    ):
        add(file, "mine", root)


@pytest.fixture
def apart(save: Save) -> Callable[..., Path]:
    """A model that adds ones to its input, with its weights in a file beside it.

    Its graph names the file as `named`, if given.
    """

    def apart(location: str = "given.onnx.data", named: str = "") -> Path:
        file = save([node("Add", "x big")], big=np.ones((1, 3), np.float32))
        model = onnx.load(file)
        onnx.save(model, file, save_as_external_data=True, size_threshold=0, location=location)
        if named:
            model = onnx.load(file, load_external_data=False)
            model.graph.initializer[0].external_data[0].value = named
            onnx.save(model, file)
        return file

    return apart


def test_weights_in_a_file_beside_it_come_along(apart: Callable[..., Path], root: Path) -> None:
    folder = add(apart(), "mine", root)
    version = read_version(folder)
    verify(version)
    assert {"model.onnx", "given.onnx.data"} <= version.spec.files.keys()
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    assert session.run(None, {"x": np.ones((2, 3), np.float32)})[0].tolist() == [[2.0] * 3] * 2


def test_weights_that_are_changed_in_the_repository_are_refused(
    apart: Callable[..., Path], root: Path
) -> None:
    folder = add(apart(), "mine", root)
    (folder / "given.onnx.data").write_bytes(bytes(12))
    with pytest.raises(BadSpec, match=r'"given\.onnx\.data": expected SHA-256'):
        verify(read_version(folder))


def test_the_same_file_with_other_weights_is_another_one(
    apart: Callable[..., Path], root: Path
) -> None:
    file = apart()
    assert add(file, "mine", root) == add(file, "mine", root)
    (file.parent / "given.onnx.data").write_bytes(np.full(3, 7, np.float32).tobytes())
    with pytest.raises(
        BadSpec, match=r"this version exists: expected SHA-256 .* of .*given\.onnx\.data"
    ):
        add(file, "mine", root)


@pytest.mark.parametrize(
    "named",
    [
        "../given.onnx.data",
        "/etc/passwd",
        "sub/given.onnx.data",
        "model.toml",
        "golden.npz",
        "model.onnx",
        ".data",
        "",
    ],
)
def test_weights_are_taken_from_nowhere_else(
    apart: Callable[..., Path], root: Path, named: str
) -> None:
    file = apart(named=named or " ")
    with pytest.raises(
        BadSpec, match=r"expected weights inside or in a file beside it, .* external_data=False"
    ):
        add(file, "mine", root)
    assert not root.exists()


def test_weights_behind_a_link_out_of_the_folder_are_not_taken(
    apart: Callable[..., Path], root: Path, tmp_path: Path
) -> None:
    file, secret = apart(), tmp_path / "elsewhere" / "secret"
    secret.parent.mkdir()
    (file.parent / "given.onnx.data").rename(secret)
    (file.parent / "given.onnx.data").symlink_to(secret)
    with pytest.raises(BadSpec, match="expected weights inside or in a file beside it"):
        add(file, "mine", root)


def test_a_folder_of_links_to_one_other_folder_is_as_good(
    apart: Callable[..., Path], root: Path, tmp_path: Path
) -> None:
    """Caches of downloads have such links."""
    file, linked = apart(), tmp_path / "linked"
    linked.mkdir()
    for name in ("given.onnx", "given.onnx.data"):
        (linked / name).symlink_to(file.parent / name)
    assert "given.onnx.data" in read_version(add(linked / "given.onnx", "mine", root)).spec.files


@pytest.mark.parametrize("name", ["_given.data", "given (1).onnx.data", "a b", "a+b", "0"])
def test_weights_beside_it_may_be_called_much(
    apart: Callable[..., Path], root: Path, name: str
) -> None:
    folder = add(apart(location=name), "mine", root)
    assert name in read_version(folder).spec.files
    (folder / name).write_bytes(bytes(12))
    with pytest.raises(BadSpec, match=r"expected SHA-256") as caught:
        verify(read_version(folder))
    line = int(caught.value.where.rpartition(":")[2])
    assert name in (folder / "model.toml").read_text(encoding="utf-8").splitlines()[line - 1]


@pytest.mark.parametrize("apart_from", ["link", "file"])
def test_weights_beside_a_link_to_it_or_beside_it_come_along(
    apart: Callable[..., Path], root: Path, tmp_path: Path, apart_from: str
) -> None:
    file, linked = apart(), tmp_path / "linked"
    linked.mkdir()
    (linked / "other.onnx").symlink_to(file)
    if apart_from == "file":
        (file.parent / "given.onnx.data").rename(linked / "given.onnx.data")
    assert "given.onnx.data" in read_version(add(linked / "other.onnx", "mine", root)).spec.files


def test_a_link_beside_a_link_leads_nowhere_else(
    apart: Callable[..., Path], root: Path, tmp_path: Path
) -> None:
    file, linked, secret = apart(), tmp_path / "linked", tmp_path / "secret"
    linked.mkdir()
    secret.mkdir()
    (file.parent / "given.onnx.data").rename(secret / "given.onnx.data")
    (linked / "other.onnx").symlink_to(file)
    (linked / "given.onnx.data").symlink_to(secret / "given.onnx.data")
    with pytest.raises(BadSpec, match=r"beside it, found .* to be a link to another folder"):
        add(linked / "other.onnx", "mine", root)


def held_apart() -> onnx.TensorProto:
    held = numpy_helper.from_array(np.ones((1, 3), np.float32), "big")
    held.ClearField("raw_data")
    held.data_location = TensorProto.EXTERNAL
    held.external_data.add(key="location", value="held")
    return held


def branches(nodes: list[onnx.NodeProto], *weights: TensorProto) -> onnx.NodeProto:
    output = helper.make_tensor_value_info("z", FLOAT, [1, 3])
    graph = helper.make_graph(nodes, "branch", [], [output], weights)
    return node("If", "yes", "z", then_branch=graph, else_branch=graph)


CONSTANT = node("Constant", "", "z", value=held_apart())
HELD = {
    "a constant": CONSTANT,
    "a branch": branches([node("Identity", "big", "z")], held_apart()),
    "a constant of a branch": branches([CONSTANT]),
    "a branch of a branch": branches([branches([CONSTANT])]),
}


@pytest.mark.parametrize("what", HELD)
def test_weights_come_along_wherever_in_the_graph_they_are(
    save: Save, root: Path, what: str
) -> None:
    file = save([HELD[what], node("Add", "x z")], yes=np.array(True))
    (file.parent / "held").write_bytes(np.ones(3, np.float32).tobytes())
    assert "held" in read_version(add(file, "mine", root)).spec.files


def test_weights_that_are_not_there_are_named_with_the_way_out(
    apart: Callable[..., Path], root: Path
) -> None:
    file = apart()
    (file.parent / "given.onnx.data").unlink()
    expected = r'expected its weights in "given\.onnx\.data" beside it, found no such file'
    with pytest.raises(BadSpec, match=f"{expected}; export it with external_data=False"):
        add(file, "mine", root)


def test_without_the_package_that_reads_graphs_the_way_out_is_told(
    apart: Callable[..., Path], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = apart()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        BadSpec, match=r"External data path does not exist: .*; export it with external_data=False"
    ):
        add(file, "mine", root)


def test_weights_that_are_too_short_are_refused(apart: Callable[..., Path], root: Path) -> None:
    file = apart()
    (file.parent / "given.onnx.data").write_bytes(b"1234")
    with pytest.raises(BadSpec, match="expected a model that ONNX Runtime can open"):
        add(file, "mine", root)
    assert list(root.iterdir()) == []


def test_outputs_may_be_left_out(save: Save, root: Path) -> None:
    nodes = [
        node("Relu"),
        node("SplitToSequence", "x", "parts", axis=1),
        node("ReduceSum", "x", "loss", keepdims=0),
    ]
    file = save(nodes, outputs=[FLOAT_Y, ("parts", None, None), ("loss", graphs.FLOAT, [])])
    with pytest.raises(BadSpec, match='output "parts": expected a tensor'):
        add(file, "mine", root)
    version = read_version(add(file, "mine", root, outputs=["y"]))
    assert (version.spec.output_names, version.spec.is_batched) == (("y",), True)
    backend = backends.load(version, "onnx")
    assert list(backend.run({"x": np.ones((2, 3), np.float32)})) == ["y"]


def test_outputs_that_the_model_lacks_or_that_were_left_out_before_are_refused(
    save: Save, root: Path
) -> None:
    file = save(
        [node("Relu"), node("Tanh", "x", "z")], outputs=[FLOAT_Y, ("z", graphs.FLOAT, ["n", 3])]
    )
    with pytest.raises(BadSpec, match=r"outputs: expected some of \['y', 'z'\], found \"w\""):
        add(file, "mine", root, outputs=["w"])
    add(file, "mine", root, outputs=["y"])
    assert add(file, "mine", root, outputs=["y"]) == add(file, "mine", root)
    with pytest.raises(
        BadSpec, match=r"this version exists: expected the outputs \['y', 'z'\], found \['y'\]"
    ):
        add(file, "mine", root, outputs=["y", "z"])


def test_an_input_whose_axes_the_file_does_not_count_is_refused(save: Save, root: Path) -> None:
    file = save([node("Relu")], [("x", graphs.FLOAT, None)], [("y", graphs.FLOAT, None)])
    with pytest.raises(
        BadSpec, match='input "x": expected a shape, but the file does not say how many axes it has'
    ):
        add(file, "mine", root)


@pytest.mark.parametrize(
    ("version", "opset", "reason"),
    [
        (99, 17, "found: Unsupported model IR version: 99, max"),
        (10, 99, "found: ONNX Runtime only .* Opset 99 is"),
    ],
)
def test_the_runtimes_own_reason_is_told(
    save: Save, root: Path, version: int, opset: int, reason: str
) -> None:
    file = save([node("Relu")])
    model = onnx.load(file)
    model.ir_version, model.opset_import[0].version = version, opset
    onnx.save(model, file)
    with pytest.raises(BadSpec, match=reason):
        add(file, "mine", root)


def test_integers_that_may_be_looked_up_are_hinted_at(save: Save, root: Path) -> None:
    sentences: list[str] = []
    file = save(
        [node("Gather", "table ids", "y")],
        [("ids", graphs.INT64, ["n", "m"])],
        table=np.ones(100, np.float32),
    )
    add(file, "mine", root, tell=sentences.append)
    assert sentences[-1].startswith(
        'if the model looks up "ids" in a table, set `maximum`, and `max_length`'
    )
    add(save([node("Relu")]), "numbers", root, tell=sentences.append)
    assert len(sentences) == 1


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, root: Path) -> None:
    file = tmp_path / "given.onnx"
    file.write_bytes(b"not a model")
    with pytest.raises(
        BadSpec,
        match=r"expected a model that ONNX Runtime can open, found: Protobuf parsing failed",
    ):
        add(file, "mine", root)
    with pytest.raises(BadSpec, match="expected an ONNX file, found none"):
        add(tmp_path / "nowhere.onnx", "mine", root)


@pytest.mark.parametrize(
    ("name", "version"), [("../mine", "1"), ("mine", "../1"), ("", "1"), (".mine", "1")]
)
def test_a_name_that_leaves_the_repository_is_refused(
    save: Save, root: Path, name: str, version: str
) -> None:
    with pytest.raises(BadSpec, match="expected letters, digits"):
        add(save([node("Relu")]), name, root, version)


def test_what_was_added_answers_as_the_file_did(save: Save, root: Path) -> None:
    file = save([node("Softmax")])
    x = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    answers = [
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
            None, {"x": x}
        )[0]
        for path in (file, add(file, "mine", root) / "model.onnx")
    ]
    assert np.array_equal(*answers)
