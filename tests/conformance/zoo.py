"""A model of the zoo behind a gateway of its own, without Ray."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.plain import Plain, plain
from tests.platform.running import REPOSITORY

from headrace.edge.limits import EdgeLimits

__all__ = ["serve"]


def serve(folder: Path, name: str) -> AbstractContextManager[Plain]:
    version = (REPOSITORY / name / "1").resolve()
    if not version.is_dir():
        pytest.skip(f"{name} is not built: {version}")
    return plain(folder, make=lambda _, __: version, edge=EdgeLimits())
