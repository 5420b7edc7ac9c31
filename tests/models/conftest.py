from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from headrace_models.publishing import Draft, write_version
from headrace_models.repository import ModelVersion, read_version

REPOSITORY = Path(__file__).parents[2] / "models" / "repository"


@pytest.fixture
def tiny_onnx() -> onnx.ModelProto:
    """x FP32 [rows, 3] -> y FP32 [rows, 2], its first two columns."""
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["rows", 3])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["rows", 2])
    columns = onnx.numpy_helper.from_array(np.array([0, 1]), "columns")
    nodes = [onnx.helper.make_node("Gather", ["x", "columns"], ["y"], axis=1)]
    graph = onnx.helper.make_graph(nodes, "tiny", [x], [y], [columns])
    return onnx.helper.make_model(
        graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 17)]
    )


@pytest.fixture
def document() -> dict[str, object]:
    """A small `model.toml` without its files."""
    return {
        "name": "tiny",
        "version": "1",
        "weights": {"onnx": "model.onnx"},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2]}],
    }


@pytest.fixture
def write(tmp_path: Path, tiny_onnx: onnx.ModelProto) -> Callable[[dict[str, object]], Path]:
    """Write a version whose weights are tiny_onnx; returns its folder."""

    def write(document: dict[str, object]) -> Path:
        def make(folder: Path) -> Draft:
            onnx.save(tiny_onnx, folder / "model.onnx")
            return Draft(document, {"x": np.eye(2, 3, dtype=np.float32)})

        return write_version(
            tmp_path / "repository", str(document["name"]), str(document["version"]), make
        )

    return write


@pytest.fixture
def built() -> Callable[[str], ModelVersion]:
    """A model of the zoo, as it was built."""

    def built(name: str) -> ModelVersion:
        folder = REPOSITORY / name / "1"
        if not folder.is_dir():
            pytest.skip(f"{name} is not built: no {folder}")
        return read_version(folder)

    return built
