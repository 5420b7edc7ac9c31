"""What is in the repository now: every version folder of every model, sound or refused. Nothing follows a link.

Names come from listings of folders; a name from elsewhere is only ever compared with these.
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
    """A version folder: its sound content, or why it is refused (`model.toml:12: ...`)."""

    name: str
    version: str
    sound: ModelVersion | None
    reason: str = ""


def model_names(repository: Path) -> list[str]:
    return [folder.name for folder in _folders(repository)]


def versions_of(repository: Path, name: str) -> list[Found]:
    """All versions of a model of the listing, newest first, digests checked."""
    folders = (
        folder for model in _folders(repository) if model.name == name for folder in _folders(model)
    )
    return [
        _found(folder)
        for folder in sorted(folders, key=lambda f: version_order(f.name), reverse=True)
    ]


def digest_of(version: ModelVersion) -> str:
    """What tells contents apart: the spec holds the digest of every other file."""
    return sha256_of(version.path(SPEC_FILE))


def _folders(parent: Path) -> list[Path]:
    """The folders in it that a model or a version may be called, in order; no links. None if it cannot be read."""
    try:
        return sorted(
            p
            for p in parent.iterdir()
            if is_model_name(p.name) and p.is_dir() and not p.is_symlink()
        )
    except OSError as error:
        log.warning("a folder of the repository cannot be read: %s", error)
        return []


def _found(folder: Path) -> Found:
    name, version = folder.parent.name, folder.name
    try:
        sound = read_version(folder)
        verify(sound)
    except BadSpec as error:
        return Found(name, version, None, without_paths(str(error).replace(f"{folder}/", "")))
    except OSError as error:
        return Found(name, version, None, f"cannot be read: {error.strerror}")
    return Found(name, version, sound)
