"""The versions of a repository, and the reasons for which some are refused."""

from pathlib import Path

import pytest
from tests.operation.repository import RepositoryFolder

from headrace.operation.catalogue import model_names, versions_of


@pytest.fixture
def repository(tmp_path: Path) -> RepositoryFolder:
    return RepositoryFolder(tmp_path / "repository")


def test_every_version_is_found_newest_first(repository: RepositoryFolder) -> None:
    for version in ("9", "10", "1"):
        repository.add("m", version)
    assert [(f.version, f.sound is not None) for f in versions_of(repository.root, "m")] == [
        ("10", True),
        ("9", True),
        ("1", True),
    ]


def test_a_refusal_names_file_and_line_and_no_folder(repository: RepositoryFolder) -> None:
    repository.add_broken("m", "1")
    (found,) = versions_of(repository.root, "m")
    assert found.sound is None
    assert found.reason.startswith("model.toml:19: files")
    assert str(repository.root) not in found.reason


@pytest.mark.parametrize("spec", [None, "name = ", "\x00", 'name = "other"'])
def test_a_folder_without_a_sound_spec_is_refused_not_raised(
    repository: RepositoryFolder, spec: str | None
) -> None:
    folder = repository.add("m", "1")
    (folder / "model.toml").unlink()
    if spec is not None:
        (folder / "model.toml").write_text(spec)
    (found,) = versions_of(repository.root, "m")
    assert found.sound is None
    assert found.reason
    assert str(repository.root) not in found.reason


def test_links_hidden_folders_and_files_are_no_models(
    repository: RepositoryFolder, tmp_path: Path
) -> None:
    repository.add("m", "1")
    elsewhere = RepositoryFolder(tmp_path / "elsewhere")
    (repository.root / "link").symlink_to(elsewhere.add("m", "1").parent)
    (repository.root / "m" / "2").symlink_to(elsewhere.add("m", "2"))
    (repository.root / ".hidden").mkdir()
    (repository.root / "file").write_text("")
    assert model_names(repository.root) == ["m"]
    assert [f.version for f in versions_of(repository.root, "m")] == ["1"]


@pytest.mark.parametrize("name", ["..", "../elsewhere", "/etc", "", ".", "M", "m/1"])
def test_a_name_that_the_listing_does_not_give_has_no_versions(
    repository: RepositoryFolder, name: str
) -> None:
    repository.add("m", "1")
    assert versions_of(repository.root, name) == []


def test_a_repository_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert model_names(tmp_path / "nowhere") == []
