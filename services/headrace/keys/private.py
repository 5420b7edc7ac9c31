"""Files that are their owner's alone: read, looked at and replaced whole."""

import os
import stat
import tempfile
from pathlib import Path

from headrace.errors import StartFailed

__all__ = ["check_private", "make_private", "read_private", "replace_private"]

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_private(path: Path) -> None:
    """Raises StartFailed unless `path` is a file that group and others can neither read nor write."""
    mode = _mode(path)
    if mode & _OTHERS:
        raise StartFailed(f"{path}: expected mode 0600, its owner's alone, found {mode:04o}; chmod 600 {path}")


def make_private(path: Path) -> bool:
    """Take from group and others what they may do with a file; False if that was nothing.

    Raises StartFailed if it is not this user's to change, but for what its group may read: so secrets are mounted.
    """
    mode = _mode(path)
    if not mode & _OTHERS:
        return False
    try:
        path.chmod(mode & ~_OTHERS)
    except OSError:
        if mode & (_OTHERS & ~stat.S_IRGRP):
            raise StartFailed(
                f"{path}: expected mode 0600 or 0440, found {mode:04o} in another user's file; chmod 440 {path}"
            ) from None
        return False
    return True


def _mode(path: Path) -> int:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _cannot("read", path, error) from None
    if not stat.S_ISREG(mode):
        raise StartFailed(f"{path}: expected a file, found something else")
    return stat.S_IMODE(mode)


def read_private(path: Path) -> bytes:
    """The bytes of a file that is its owner's alone. Raises StartFailed with the path and the reason."""
    check_private(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _cannot("read", path, error) from None


def replace_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 whole or not at all: a reader sees the old one or the new one, never a part.

    Its owner stays who it was, so that root may change a service's file. Raises StartFailed.
    """
    path = path.resolve()  # through a link, to the file that it names
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as making:
            try:
                making.write(data)
                making.flush()
                os.fsync(making.fileno())
                if path.exists():
                    os.fchown(making.fileno(), path.stat().st_uid, -1)
                Path(making.name).replace(path)
            except BaseException:
                Path(making.name).unlink()
                raise
    except OSError as error:
        raise _cannot("write", path, error) from None


def _cannot(do: str, path: Path, error: OSError) -> StartFailed:
    return StartFailed(f"cannot {do} {path}: {os.strerror(error.errno or 0)}")
