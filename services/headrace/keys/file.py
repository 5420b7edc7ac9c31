"""The key file: JSON, its owner's alone, changed by one command at a time and seen whole by everybody."""

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

MAX_KEYS = 2000  # they are read on the gateway's loop: in under 20 ms


class _KeyFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    keys: tuple[Key, ...] = Field(default=(), max_length=MAX_KEYS)

    @field_validator("keys")
    @classmethod
    def _ids_differ(cls, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        if len({key.id for key in keys}) < len(keys):
            raise ValueError("two keys have the same id")
        return keys


def read_keys(path: Path) -> tuple[Key, ...]:
    """Every key of a file, also those that are revoked or expired. Raises StartFailed with the path and the reason."""
    data = read_private(path)
    with _faults_named(path):
        return _KeyFile.model_validate_json(data).keys


def add_key(path: Path, key: Key) -> None:
    """Put a key into the file, which is made if there is none. Raises StartFailed."""
    with _held(path):
        _write(path, (*(read_keys(path) if path.exists() else ()), key))


def revoke_key(path: Path, key_id: str) -> Key:
    """Revoke a key, for ever; it stays in the file. Gives it as it is now. Raises StartFailed if there is none."""
    with _held(path):
        keys = {key.id: key for key in read_keys(path)}
        if key_id not in keys:
            raise StartFailed(f'{path}: expected the id of a key in it, found "{key_id}"')
        keys[key_id] = keys[key_id].model_copy(update={"revoked": True})
        _write(path, tuple(keys.values()))
    return keys[key_id]


def _write(path: Path, keys: tuple[Key, ...]) -> None:
    with _faults_named(path):
        text = _KeyFile(keys=keys).model_dump_json(indent=2)
    replace_private(path, text.encode() + b"\n")


@contextmanager
def _faults_named(path: Path) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise StartFailed(f"{path}: {fault(error)}") from None


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep other commands from changing the file meanwhile: one of two changes would be lost.

    The folder is locked, not the file, which is another one after each change.
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
