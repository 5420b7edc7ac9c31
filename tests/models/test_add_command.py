from pathlib import Path

import pytest
from tests.models import graphs
from tests.models.graphs import FLOAT_Y, node
from typer.testing import CliRunner

from headrace.commands.models import app
from headrace_models.repository import read_version


@pytest.mark.parametrize(
    ("options", "served"),
    [((), ("y", "z")), (("--outputs", "z"), ("z",)), (("--outputs", "z, y"), ("y", "z"))],
)
def test_outputs_are_named_by_commas(
    tmp_path: Path, options: tuple[str, ...], served: tuple[str, ...]
) -> None:
    nodes = [node("Relu"), node("Tanh", "x", "z")]
    file = graphs.save(
        tmp_path / "given.onnx", nodes, outputs=[FLOAT_Y, ("z", graphs.FLOAT, ["n", 3])]
    )
    root = tmp_path / "repository"
    ended = CliRunner().invoke(
        app, ["add", str(file), "--name", "mine", "--models", str(root), *options]
    )
    assert ended.exit_code == 0, ended.output
    assert read_version(root / "mine" / "1").spec.output_names == served
