"""The model repository: finds `<model>/<version>/` folders, checks their manifests, reads them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from headrace_models.errors import BadSpec
from headrace_models.spec import ModelSpec
from headrace_models.strict_toml import line_of, read_toml

__all__ = [
    "SPEC_FILE",
    "ModelVersion",
    "read_version",
    "scan",
    "sha256_of",
    "verify",
    "version_order",
]

SPEC_FILE = "model.toml"


@dataclass(frozen=True)
class ModelVersion:
    """A model version on disk with a readable spec.

    `folder` holds every file that the spec names.
    """

    folder: Path
    spec: ModelSpec

    def path(self, file: str) -> Path:
        return self.folder / file


@dataclass(frozen=True)
class Refused:
    """A folder that cannot be served, and the reason (`file:line: reason`)."""

    folder: Path
    reason: str


def scan(root: Path, names: Iterable[str] = ()) -> tuple[list[ModelVersion], list[Refused]]:
    """The newest sound version of each model below `root` (or of those named), and all refusals.

    Versions compare as numbers if both are numbers, otherwise as text. Digests are checked. A
    refused newest version does not hide an older one.
    """
    wanted = set(names)
    found: list[ModelVersion] = []
    refused: list[Refused] = []
    for model in _folders(root, refused):
        if model.name.startswith(".") or (wanted and model.name not in wanted):
            continue
        for folder in sorted(
            _folders(model, refused), key=lambda p: version_order(p.name), reverse=True
        ):
            try:
                version = read_version(folder)
                verify(version)
            except BadSpec as error:
                refused.append(Refused(folder, str(error)))
            else:
                found.append(version)
                break
    return found, refused


def _folders(parent: Path, refused: list[Refused]) -> list[Path]:
    """The folders in a folder, by name; empty if it is missing or cannot be read."""
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        refused.append(Refused(parent, f"{parent}: {error.strerror}"))
        return []


def version_order(version: str) -> tuple[int, int, str]:
    """Sort key of versions: numbers by value, above all other names."""
    return (1, int(version), "") if version.isdecimal() else (0, 0, version)


def read_version(folder: Path) -> ModelVersion:
    """Read a version folder's spec. Raises BadSpec if the spec is wrong or names another folder."""
    path = folder / SPEC_FILE
    spec = read_toml(ModelSpec, path)
    for key, value, folder_name in (
        ("name", spec.name, folder.parent.name),
        ("version", spec.version, folder.name),
    ):
        if value != folder_name:
            line = line_of(path.read_text(encoding="utf-8"), (key,))
            raise BadSpec(
                f"{path}:{line}",
                f'{key}: expected "{folder_name}", as the folder is called, found "{value}"',
            )
    return ModelVersion(folder, spec)


def verify(version: ModelVersion) -> None:
    """Check the SHA-256 of every file of the manifest.

    Raises BadSpec naming the manifest's line.
    """
    manifest = version.folder / SPEC_FILE
    for file, expected in version.spec.files.items():
        if fault := _fault(version.path(file), expected):
            line = line_of(manifest.read_text(encoding="utf-8"), ("files", file))
            raise BadSpec(
                f"{manifest}:{line}", f'files: "{file}": expected SHA-256 {expected[:12]}…, {fault}'
            )


def _fault(path: Path, expected: str) -> str:
    """The file's difference from the manifest; empty if there is none."""
    try:
        if not path.is_file():
            return "the file is missing"
        actual = sha256_of(path)
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    return "" if actual == expected else f"found {actual[:12]}…"


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
