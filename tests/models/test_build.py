"""The zoo's builder, tried on its smallest model."""

import re
from pathlib import Path

import pytest
from tests import data

from headrace_models.build import ZOO, build
from headrace_models.errors import BadSpec, ModelError
from headrace_models.repository import read_version, verify
from headrace_models.zoo import dga_lstm

NAME = "dga-lstm"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    data.have(dga_lstm.PACKAGE)
    return tmp_path / "repository"


def test_a_built_model_verifies_and_its_progress_is_reported(root: Path) -> None:
    reported: list[tuple[str, float]] = []
    build([NAME], root, cache=data.CACHE, progress=lambda name, done: reported.append((name, done)))
    verify(read_version(root / NAME / "1"))
    assert reported == [(NAME, 0.0), (NAME, 0.5), (NAME, 1.0)]


def test_a_second_build_changes_nothing_and_needs_no_packages(root: Path, tmp_path: Path) -> None:
    build([NAME], root, cache=data.CACHE)
    spec = root / NAME / "1" / "model.toml"
    before = spec.stat()
    build([NAME], root, cache=tmp_path / "no packages here")
    assert (spec.stat().st_ino, spec.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_damaged_model_is_built_again_to_the_same_bytes(root: Path) -> None:
    build([NAME], root, cache=data.CACHE)
    weights = root / NAME / "1" / "model.safetensors"
    sound, digests = weights.read_bytes(), read_version(weights.parent).spec.files
    weights.write_bytes(sound[:-1])
    build([NAME], root, cache=data.CACHE)
    assert weights.read_bytes() == sound
    assert read_version(weights.parent).spec.files == digests


def test_a_model_of_an_earlier_recipe_is_built_again(root: Path) -> None:
    build([NAME], root, cache=data.CACHE)
    spec = root / NAME / "1" / "model.toml"
    today = spec.read_text(encoding="utf-8")
    spec.write_text(
        re.sub(r"^(edition = .*|m(in|ax)imum = .*)\n", "", today, flags=re.MULTILINE),
        encoding="utf-8",
    )
    assert read_version(spec.parent).spec.edition == 1
    build([NAME], root, cache=data.CACHE)
    assert spec.read_text(encoding="utf-8") == today


def test_a_model_whose_spec_has_fields_of_an_earlier_format_is_built_again(root: Path) -> None:
    build([NAME], root, cache=data.CACHE)
    spec = root / NAME / "1" / "model.toml"
    today = spec.read_text(encoding="utf-8")
    earlier = today.replace("\nedition = ", "\nrecipe = ")
    assert earlier != today
    spec.write_text(earlier, encoding="utf-8")
    with pytest.raises(BadSpec, match="recipe"):
        read_version(spec.parent)
    build([NAME], root, cache=data.CACHE)
    assert spec.read_text(encoding="utf-8") == today


def test_a_name_that_is_not_in_the_zoo_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r'expected a model of the zoo \(efficientnet-lite0, .*\), found "lion"'
    ):
        build([ZOO[0], "lion"], tmp_path)
    assert list(tmp_path.iterdir()) == []
