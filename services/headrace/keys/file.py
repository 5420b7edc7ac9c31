"""The key file: JSON, private, changed by one command at a time and replaced atomically."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from headrace.errors import StartFailed
from headrace.keys.key import Key, fault
from headrace.keys.private import read_private, replace_private

__all__ = ["add_key", "read_keys", "revoke_key"]

MAX_KEYS = 2000  # read on the gateway's loop, in under 20 ms


class _KeyFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    keys: tuple[Key, ...] = Field(default=(), max_length=MAX_KEYS)

    @field_validator("keys")
    @classmethod
    def _check_ids(cls, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        if len({key.id for key in keys}) < len(keys):
            raise ValueError("two keys have the same id")
        return keys


def read_keys(path: Path) -> tuple[Key, ...]:
    """All keys of a file, revoked and expired ones too. Raises StartFailed with path and reason."""
    data = read_private(path)
    with _naming(path):
        return _KeyFile.model_validate_json(data).keys


def add_key(path: Path, key: Key) -> None:
    """Add a key to the file, which is created if missing. Raises StartFailed."""
    with _locked(path):
        _write(path, (*(read_keys(path) if path.exists() else ()), key))


def revoke_key(path: Path, key_id: str) -> Key:
    """Revoke a key for ever and return it; it stays in the file.

    Raises StartFailed if it is missing.
    """
    with _locked(path):
        keys = {key.id: key for key in read_keys(path)}
        if key_id not in keys:
            raise StartFailed(f'{path}: expected the id of one of its keys, found "{key_id}"')
        keys[key_id] = keys[key_id].model_copy(update={"revoked": True})
        _write(path, tuple(keys.values()))
    return keys[key_id]


def _write(path: Path, keys: tuple[Key, ...]) -> None:
    with _naming(path):
        text = _KeyFile(keys=keys).model_dump_json(indent=2)
    replace_private(path, text.encode() + b"\n")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in the faults of its content."""
    try:
        yield
    except ValidationError as error:
        raise StartFailed(f"{path}: {fault(error)}") from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other commands from changing the file meanwhile; one of the two changes would be lost.

    The lock is on the folder, because each change replaces the file.
    """
    try:
        folder = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StartFailed(
            f"cannot open the folder of {path}: {os.strerror(error.errno or 0)}"
        ) from None
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartFailed(f"{path}: another command is changing it; try again") from None
        yield
    finally:
        os.close(folder)
