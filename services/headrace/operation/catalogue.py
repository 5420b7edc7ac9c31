"""The repository's current content: every version folder of every model, sound or refused.

Links are not followed.

Names come from listings of folders; a name from elsewhere is only compared with these.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from headrace_models.errors import BadSpec
from headrace_models.names import is_model_name
from headrace_models.reasons import without_paths
from headrace_models.repository import (
    SPEC_FILE,
    ModelVersion,
    read_version,
    sha256_of,
    verify,
    version_order,
)

__all__ = ["Found", "digest_of", "model_names", "versions_of"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A version folder: its sound content, or the reason for its refusal (`model.toml:12: ...`)."""

    name: str
    version: str
    sound: ModelVersion | None
    reason: str = ""


def model_names(repository: Path) -> list[str]:
    return [folder.name for folder in _folders(repository)]


def versions_of(repository: Path, name: str) -> list[Found]:
    """All versions of a model that is listed, newest first, digests checked."""
    found: list[Path] = []
    for model in _folders(repository):
        if model.name == name:
            found += _folders(model)
    found.sort(key=lambda folder: version_order(folder.name), reverse=True)
    return [_read(folder) for folder in found]


def digest_of(version: ModelVersion) -> str:
    """Identifies the content of a version: its spec holds the digests of all other files."""
    return sha256_of(version.path(SPEC_FILE))


def _folders(parent: Path) -> list[Path]:
    """Folders with names of models or versions, sorted, no links; [] if `parent` is unreadable."""
    try:
        return sorted(
            p
            for p in parent.iterdir()
            if is_model_name(p.name) and p.is_dir() and not p.is_symlink()
        )
    except OSError as error:
        log.warning("cannot read a folder of the repository: %s", error)
        return []


def _read(folder: Path) -> Found:
    name = folder.parent.name
    version = folder.name
    try:
        sound = read_version(folder)
        verify(sound)
    except BadSpec as error:
        return Found(name, version, None, without_paths(str(error).replace(f"{folder}/", "")))
    except OSError as error:
        return Found(name, version, None, f"cannot be read: {error.strerror}")
    return Found(name, version, sound)
