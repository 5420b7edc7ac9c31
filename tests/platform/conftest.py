from collections.abc import Iterator

import pytest
from tests.platform.running import REPOSITORY, Platform, platform


@pytest.fixture(scope="session")
def served() -> Iterator[Platform]:
    """The zoo, served once for all tests of this folder."""
    if not (REPOSITORY / "minilm-l6").is_dir():
        pytest.skip(f"{REPOSITORY} lacks the zoo: run headrace models build")
    with platform() as running:
        yield running
