import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from headrace_models.errors import BadSpec
from headrace_models.publishing import Draft, to_toml, write_version
from headrace_models.strict_toml import line_of

Write = Callable[[dict[str, Any]], Path]


def test_what_is_written_as_toml_reads_back_the_same() -> None:
    document = {
        "text": 'quote " backslash \\ newline \n delete \x7f é 漢 🙂',
        "number": 0.875,
        "whole": 3,
        "yes": True,
        "list": [1, -1],
        "empty": [],
        "table": {"a.b": "dotted", "inner": {"k": 1}},
        "rows": [{"name": "a", "shape": [2, 3]}, {"name": "b", "deep": {"x": 1.5e-7}}],
    }
    assert tomllib.loads(to_toml(document)) == document


@pytest.mark.parametrize("values", [[1, -1], [0.5, 1e-05], ["a", "b, c"], [True]])
def test_a_list_of_plain_values_is_on_one_line(values: list[object]) -> None:
    (line,) = to_toml({"list": values}).splitlines()
    assert tomllib.loads(line) == {"list": values}


def test_a_refusal_names_the_line_of_a_key_in_a_list_of_tables() -> None:
    states = [{"input": "h", "output": "hn"}, {"input": "c", "output": "cn"}]
    text = to_toml({"name": "vad", "state": states, "golden": "g"})
    assert text.splitlines()[line_of(text, ("state", 1, "output")) - 1] == 'output = "cn"'


@pytest.mark.parametrize("text", ["[\n    1,\n]", "a]", "{b", "[1, 2"])
def test_a_text_like_a_list_stays_as_it_is(text: str) -> None:
    document = {"list": [text, "plain"], "table": {"text": text}}
    assert tomllib.loads(to_toml(document)) == document


def test_a_value_toml_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="NoneType"):
        to_toml({"nothing": None})


def test_a_version_that_cannot_be_served_is_not_put_in_place(
    tmp_path: Path, document: dict[str, Any], tiny_onnx: onnx.ModelProto
) -> None:
    def make(folder: Path) -> Draft:
        onnx.save(tiny_onnx, folder / "model.onnx")
        return Draft(
            document | {"weights": {"onnx": "other.onnx"}}, {"x": np.zeros((1, 3), np.float32)}
        )

    with pytest.raises(BadSpec, match=r'files: no SHA-256 for "other\.onnx"'):
        write_version(tmp_path, "tiny", "1", make)
    assert list(tmp_path.iterdir()) == []


def test_a_version_replaces_the_one_before_it_whole(write: Write, document: dict[str, Any]) -> None:
    folder = write(document)
    (folder / "stray").write_bytes(b"from the version before")
    assert write(document) == folder
    assert sorted(path.name for path in folder.iterdir()) == [
        "golden.npz",
        "model.onnx",
        "model.toml",
    ]
    assert [path.name for path in folder.parents[1].iterdir()] == ["tiny"]


def test_every_file_may_be_read_by_another_user(write: Write, document: dict[str, Any]) -> None:
    assert all(path.stat().st_mode & 0o004 for path in write(document).iterdir())
