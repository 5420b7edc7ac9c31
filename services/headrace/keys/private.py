"""Files that are their owner's alone: read, looked at and replaced whole."""

import os
import stat
import tempfile
from pathlib import Path

from headrace.errors import StartFailed

__all__ = ["check_private", "make_private", "read_private", "replace_private"]

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_private(path: Path) -> None:
    """Raises StartFailed unless `path` is a file that others can neither read nor write.

    Its group may read it if it is not this user's to write, by its owner or its mode: so secrets are mounted.
    """
    status = _status(path)
    if not _is_private(status):
        todo = "chmod 600" if status.st_uid == os.getuid() else "chmod 440"
        raise StartFailed(f"{path}: {_expected(status)}; {todo} {path}")


def make_private(path: Path) -> bool:
    """Take from group and others what they may do with a file that `check_private` refuses; False if it does not.

    Raises StartFailed if it cannot be changed.
    """
    status = _status(path)
    if _is_private(status):
        return False
    try:
        path.chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS)
    except OSError as error:
        raise StartFailed(
            f"{path}: {_expected(status)}, which cannot be changed here: {os.strerror(error.errno or 0)}; "
            "chmod 440 it where it comes from"
        ) from None
    return True


def _is_private(status: os.stat_result) -> bool:
    is_ours = status.st_uid == os.getuid() and bool(status.st_mode & stat.S_IWUSR)
    return not status.st_mode & (_OTHERS if is_ours else _OTHERS & ~stat.S_IRGRP)


def _expected(status: os.stat_result) -> str:
    return (
        f"expected mode 0600, or 0440 of a mounted secret, found {stat.S_IMODE(status.st_mode):04o}"
    )


def _status(path: Path) -> os.stat_result:
    try:
        status = path.stat()
    except OSError as error:
        raise _cannot("read", path, error) from None
    if not stat.S_ISREG(status.st_mode):
        raise StartFailed(f"{path}: expected a file, found something else")
    return status


def read_private(path: Path) -> bytes:
    """The bytes of a file that is its owner's alone. Raises StartFailed with the path and the reason."""
    check_private(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _cannot("read", path, error) from None


def replace_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 whole or not at all: a reader sees the old one or the new one, never a part.

    Its owner stays who it was, and so does a group that may read it: root may change a service's file. Raises
    StartFailed.
    """
    path = path.resolve()  # through a link, to the file that it names
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as making:
            try:
                making.write(data)
                making.flush()
                os.fsync(making.fileno())
                if path.exists():
                    _keep_readers(making.fileno(), path.stat())
                Path(making.name).replace(path)
            except BaseException:
                Path(making.name).unlink()
                raise
    except OSError as error:
        raise _cannot("write", path, error) from None


def _keep_readers(descriptor: int, before: os.stat_result) -> None:
    if _is_private(before) and before.st_mode & stat.S_IRGRP:
        os.fchown(descriptor, before.st_uid, before.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
    else:
        os.fchown(descriptor, before.st_uid, -1)


def _cannot(do: str, path: Path, error: OSError) -> StartFailed:
    return StartFailed(f"cannot {do} {path}: {os.strerror(error.errno or 0)}")
