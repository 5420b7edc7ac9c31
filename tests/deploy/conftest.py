import shutil
import subprocess
from pathlib import Path

import pytest
from tests import data

from headrace_models.fetch import Package

_PROMETHEUS = Package(
    registry="Debian",
    name="prometheus",
    version="2.42.0+ds-5+deb12u1",
    file="prometheus_2.42.0+ds-5+deb12u1_amd64.deb",
    sha256="81d59a24fce84f7fbe97a45a4f2914b6a5881b5cd1db2a6a0e129e515e1a5f55",
)


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus' own checker: that of this machine, or the pinned Debian package's."""
    if found := shutil.which("promtool"):
        return found
    tool = data.UNPACKED / "prometheus" / "promtool"
    if not tool.is_file():
        _unpack_promtool(data.have(_PROMETHEUS), tool)
    return str(tool)


def _unpack_promtool(archive: Path, tool: Path) -> None:
    tool.parent.mkdir(parents=True, exist_ok=True)
    making = tool.with_name("all")
    try:
        subprocess.run(["dpkg-deb", "-x", archive, making], check=True)
    except OSError as error:
        pytest.skip(f"promtool cannot be unpacked: {error}")
    (making / "usr" / "bin" / "promtool").rename(tool)
    shutil.rmtree(making)
