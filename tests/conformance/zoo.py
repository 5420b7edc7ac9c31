"""A model of the zoo behind a gateway of its own, without Ray."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from loadtests.support.checkout import REPOSITORY
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform

from headrace.edge.limits import EdgeLimits

__all__ = ["serve"]


def serve(folder: Path, name: str) -> AbstractContextManager[InProcessPlatform]:
    version = (REPOSITORY / name / "1").resolve()
    if not version.is_dir():
        pytest.skip(f"{name} is not built: {version}")
    return in_process_platform(folder, make=lambda _, __: version, edge=EdgeLimits())
