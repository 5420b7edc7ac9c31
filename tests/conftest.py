"""Platforms that several folders of tests share: a start takes 20 s."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from loadtests.support.checkout import REPOSITORY
from tests.conformance.small_models import make_finite, make_typed, make_wide
from tests.platform.running import Platform, platform

LEFT_OUT: pytest.StashKey[Counter[str]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = Counter()


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count slow tests that are left out, by reason; those marked ray or zoo say by that why."""
    for item in items:
        mark = item.get_closest_marker("slow")
        if mark and not item.get_closest_marker("ray") and not item.get_closest_marker("zoo"):
            item.config.stash[LEFT_OUT][mark.args[0]] += 1


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for reason, count in config.stash[LEFT_OUT].most_common():
        terminalreporter.write_line(f"SLOW [{count}] left out: {reason}")


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
