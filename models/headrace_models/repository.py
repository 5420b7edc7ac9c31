"""The model repository: `<model>/<version>/` folders, found, checked against their manifest, and read."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from headrace_models.errors import BadSpec
from headrace_models.spec import ModelSpec
from headrace_models.strict_toml import line_of, read_toml

__all__ = ["SPEC_FILE", "ModelVersion", "Refused", "read_version", "scan", "sha256_of", "verify", "version_order"]

SPEC_FILE = "model.toml"


@dataclass(frozen=True)
class ModelVersion:
    """A model version on disk whose spec could be read. `folder` holds every file that the spec names."""

    folder: Path
    spec: ModelSpec

    def path(self, file: str) -> Path:
        return self.folder / file


@dataclass(frozen=True)
class Refused:
    """A folder that cannot be served, and why (`file:line: reason`)."""

    folder: Path
    reason: str


def scan(root: Path, names: Iterable[str] = ()) -> tuple[list[ModelVersion], list[Refused]]:
    """The newest version of each model below `root` (or of those named), digests checked, and what was refused.

    Versions compare as numbers when both are, else as text. A refused newest version hides no older one: the
    newest version that is sound is served, and the refusal is reported beside it.
    """
    wanted = set(names)
    found: list[ModelVersion] = []
    refused: list[Refused] = []
    models = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")) if root.is_dir() else []
    for model in models:
        if wanted and model.name not in wanted:
            continue
        for folder in sorted(
            (p for p in model.iterdir() if p.is_dir()), key=lambda p: version_order(p.name), reverse=True
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


def version_order(version: str) -> tuple[int, int, str]:
    """Sort key of versions: numbers by value, above all other names."""
    return (1, int(version), "") if version.isdecimal() else (0, 0, version)


def read_version(folder: Path) -> ModelVersion:
    """Read a version folder's spec. Raises BadSpec if the spec is wrong or not at home in this folder."""
    path = folder / SPEC_FILE
    spec = read_toml(ModelSpec, path)
    for key, value, place in (("name", spec.name, folder.parent.name), ("version", spec.version, folder.name)):
        if value != place:
            line = line_of(path.read_text(encoding="utf-8"), (key,))
            raise BadSpec(f"{path}:{line}", f'{key}: expected "{place}", as the folder is called, found "{value}"')
    return ModelVersion(folder, spec)


def verify(version: ModelVersion) -> None:
    """Check the SHA-256 of every file of the manifest. Raises BadSpec naming the manifest's line."""
    manifest = version.folder / SPEC_FILE
    for file, expected in version.spec.files.items():
        path = version.path(file)
        if path.is_file() and (actual := sha256_of(path)) == expected:
            continue
        found = f"found {actual[:12]}…" if path.is_file() else "the file is missing"
        line = line_of(manifest.read_text(encoding="utf-8"), ("files", file))
        raise BadSpec(f"{manifest}:{line}", f'files: "{file}": expected SHA-256 {expected[:12]}…, {found}')


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
