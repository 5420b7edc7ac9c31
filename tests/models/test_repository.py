from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace_models.errors import BadSpec
from headrace_models.repository import read_version, scan, verify

Write = Callable[[dict[str, Any]], Path]


def _line(folder: Path, start: str) -> str:
    """`file:line` of the line of `model.toml` that starts like this."""
    path = folder / "model.toml"
    lines = path.read_text(encoding="utf-8").splitlines()
    return (
        f"{path}:{next(number for number, line in enumerate(lines, 1) if line.startswith(start))}"
    )


def test_a_sound_version_is_found(write: Write, document: dict[str, Any]) -> None:
    folder = write(document)
    found, refused = scan(folder.parents[1])
    assert ([version.folder for version in found], refused) == ([folder], [])


def test_a_wrong_digest_is_told_with_its_line(write: Write, document: dict[str, Any]) -> None:
    folder = write(document)
    (folder / "model.onnx").write_bytes(b"other weights")
    with pytest.raises(
        BadSpec, match=r"expected SHA-256 [0-9a-f]{12}…, found [0-9a-f]{12}…"
    ) as caught:
        verify(read_version(folder))
    assert caught.value.where == _line(folder, '"model.onnx"')


def test_a_missing_file_is_told_with_its_line(write: Write, document: dict[str, Any]) -> None:
    folder = write(document)
    (folder / "model.onnx").unlink()
    with pytest.raises(BadSpec, match="the file is missing") as caught:
        verify(read_version(folder))
    assert caught.value.where == _line(folder, '"model.onnx"')


def test_an_unknown_key_is_told_with_its_line_and_the_known_ones(
    write: Write, document: dict[str, Any]
) -> None:
    folder = write(document | {"batching": {"max_rows": 8}})
    path = folder / "model.toml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("max_rows", "max_row"), encoding="utf-8"
    )
    expected = r'unknown key "batching\.max_row"; known here: buckets, cost, max_rows'
    with pytest.raises(BadSpec, match=expected) as caught:
        read_version(folder)
    assert caught.value.where == _line(folder, "max_row")


def test_text_that_is_not_toml_is_told_with_its_line(
    write: Write, document: dict[str, Any]
) -> None:
    folder = write(document)
    path = folder / "model.toml"
    path.write_text("name = tiny\n", encoding="utf-8")
    with pytest.raises(BadSpec, match="not TOML") as caught:
        read_version(folder)
    assert caught.value.where == f"{path}:1"


@pytest.mark.parametrize(("move_to", "key"), [("other/1", "name"), ("tiny/2", "version")])
def test_a_spec_in_a_folder_of_another_name_is_refused(
    write: Write, document: dict[str, Any], move_to: str, key: str
) -> None:
    folder = write(document)
    target = folder.parents[1] / move_to
    target.parent.mkdir(exist_ok=True)
    folder.rename(target)
    with pytest.raises(BadSpec, match=f"{key}: expected") as caught:
        read_version(target)
    assert caught.value.where == _line(target, key)


def test_a_broken_model_hides_no_other(write: Write, document: dict[str, Any]) -> None:
    sound, broken = write(document), write(document | {"name": "broken"})
    (broken / "model.onnx").unlink()
    found, refused = scan(sound.parents[1])
    assert [version.spec.name for version in found] == ["tiny"]
    assert [refusal.folder for refusal in refused] == [broken]
    assert "the file is missing" in refused[0].reason


def test_the_newest_sound_version_is_found(write: Write, document: dict[str, Any]) -> None:
    for version in ("2", "9", "10"):
        newest = write(document | {"version": version})
    found, _ = scan(newest.parents[1])
    assert [version.spec.version for version in found] == ["10"]
    (newest / "model.onnx").unlink()
    found, refused = scan(newest.parents[1])
    assert ([version.spec.version for version in found], len(refused)) == (["9"], 1)


def test_only_the_models_asked_for_are_looked_at(write: Write, document: dict[str, Any]) -> None:
    broken = write(document | {"name": "broken"})
    (broken / "model.onnx").unlink()
    write(document)
    found, refused = scan(broken.parents[1], ["tiny"])
    assert ([version.spec.name for version in found], refused) == (["tiny"], [])


def test_a_repository_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert scan(tmp_path / "nowhere") == ([], [])
