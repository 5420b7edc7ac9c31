"""A user who cannot read parts of a repository: other models are served, these are named."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from loadtests.support.doubler import make_doubler

from headrace.operation.catalogue import model_names, versions_of
from headrace_models.add import add
from headrace_models.errors import ModelError
from headrace_models.repository import scan

NOBODY = 65534


@pytest.fixture
def repository() -> Iterator[Path]:
    """Two models, `closed` and `doubler`, in a folder that every user can enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        make_doubler(folder, folder / "repository")
        add(folder / "doubler.onnx", "closed", folder / "repository")
        yield folder / "repository"


@contextmanager
def as_nobody() -> Iterator[None]:
    """Become another user if the tests run as root, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    "closed", ["closed", "closed/1", "closed/1/model.onnx", "closed/1/model.toml"]
)
def test_unreadable_models_hide_no_others(repository: Path, closed: str) -> None:
    path = repository / closed
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        with as_nobody():
            found, refused = scan(repository)
            listed = {
                name: [f.sound is not None for f in versions_of(repository, name)]
                for name in model_names(repository)
            }
    finally:
        path.chmod(mode)
    assert [version.spec.name for version in found] == ["doubler"]
    assert len(refused) == 1
    assert str(repository / "closed") in refused[0].reason
    assert "Permission denied" in refused[0].reason
    assert listed["doubler"] == [True]
    assert True not in listed["closed"]


def test_a_repository_that_is_closed_to_us_is_named(repository: Path) -> None:
    repository.chmod(0)
    try:
        with as_nobody():
            found, refused = scan(repository)
            with pytest.raises(ModelError) as caught:
                add(repository.parent / "doubler.onnx", "another", repository)
    finally:
        repository.chmod(0o755)
    assert (found, [refusal.reason for refusal in refused]) == (
        [],
        [f"{repository}: Permission denied"],
    )
    assert str(caught.value) == f"{repository}: Permission denied"
