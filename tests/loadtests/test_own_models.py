"""The check of other people's models finds nothing wrong with what is served, and would find it."""

import asyncio
from pathlib import Path

import pytest
from loadtests.own_models import try_one, wrong_of
from tests.models.graphs import node, save

from headrace_models.repository import read_version


@pytest.mark.parametrize(("axis", "served"), [(1, "batched"), (0, "unbatched: output")])
def test_what_is_served_answers_as_the_file_does(tmp_path: Path, axis: int, served: str) -> None:
    outcome = try_one(
        save(tmp_path / "given.onnx", [node("Softmax", axis=axis)]), tmp_path / "repository", 2
    )
    assert outcome.served.startswith(served)
    assert outcome.wrong == 0


def test_what_cannot_be_served_is_told_of(tmp_path: Path) -> None:
    outcome = try_one(
        save(tmp_path / "given.onnx", [node("RandomNormalLike")]), tmp_path / "repository", 1
    )
    assert (outcome.served.startswith("refused: "), outcome.wrong) == (True, None)


def test_rows_that_are_mixed_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    try_one(save(tmp_path / "given.onnx", [node("Softmax", axis=0)]), root, 1)
    path = root / "model" / "1" / "model.toml"
    path.write_text(path.read_text().replace('rows = "none"', 'rows = "independent"'))
    assert asyncio.run(wrong_of(read_version(path.parent), 1)) > 0
