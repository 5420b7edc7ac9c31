"""Platforms that several folders of tests share: a start takes 20 s."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from loadtests.support.checkout import REPOSITORY
from tests.conformance.small_models import make_finite, make_typed, make_wide
from tests.platform.running import Platform, platform


@pytest.fixture(scope="session")
def served() -> Iterator[Platform]:
    """The zoo, served once for all tests."""
    if not (REPOSITORY / "minilm-l6").is_dir():
        pytest.skip(f"{REPOSITORY} lacks the zoo: run headrace models build")
    with platform() as running:
        yield running


@pytest.fixture(scope="session")
def typed_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`typed`, `finite` and `wide`, the tests' own models."""
    folder = tmp_path_factory.mktemp("small")
    for make in (make_typed, make_finite, make_wide):
        make(folder, folder / "repository")
    return folder / "repository"


@pytest.fixture(scope="session")
def typed(typed_repository: Path) -> Iterator[Platform]:
    """The tests' own models on a platform of theirs."""
    with platform("--models", str(typed_repository)) as running:
        yield running
