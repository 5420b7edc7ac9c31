"""Private files, which only their owner can access: checked, read and replaced atomically."""

import os
import stat
import tempfile
from pathlib import Path

from headrace.errors import StartFailed

__all__ = ["check_private", "make_private", "read_private", "replace_private"]

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_private(path: Path) -> None:
    """Raise StartFailed unless `path` is a file that others can neither read nor write.

    Its group may read a file that this user cannot write, as mounted secrets are.
    """
    status = _status(path)
    if not _is_private(status):
        todo = "chmod 600" if status.st_uid == os.getuid() else "chmod 440"
        raise StartFailed(f"{path}: {_expected(status)}; {todo} {path}")


def make_private(path: Path) -> bool:
    """Make a file private that `check_private` refuses; False if it is private already.

    Raises StartFailed if its mode cannot be changed.
    """
    status = _status(path)
    if _is_private(status):
        return False
    try:
        path.chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS)
    except OSError as error:
        raise StartFailed(
            f"{path}: {_expected(status)}; "
            f"cannot change it here ({os.strerror(error.errno or 0)}), chmod 440 its source"
        ) from None
    return True


def _is_private(status: os.stat_result) -> bool:
    is_ours = status.st_uid == os.getuid() and bool(status.st_mode & stat.S_IWUSR)
    return not status.st_mode & (_OTHERS if is_ours else _OTHERS & ~stat.S_IRGRP)


def _expected(status: os.stat_result) -> str:
    found = stat.S_IMODE(status.st_mode)
    return f"expected mode 0600, or 0440 for a mounted secret, found {found:04o}"


def _status(path: Path) -> os.stat_result:
    try:
        status = path.stat()
    except OSError as error:
        raise _cannot("read", path, error) from None
    if not stat.S_ISREG(status.st_mode):
        raise StartFailed(f"{path}: expected a regular file, found something else")
    return status


def read_private(path: Path) -> bytes:
    """The bytes of a private file. Raises StartFailed with path and reason."""
    check_private(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _cannot("read", path, error) from None


def replace_private(path: Path, data: bytes) -> None:
    """Replace a file atomically by one of mode 0600: a reader sees the old or the new content.

    The owner stays, and so does a group that may read it: root may change a service's file.
    Raises StartFailed.
    """
    path = path.resolve()  # a link stays, and its target is replaced
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as temporary:
            try:
                temporary.write(data)
                temporary.flush()
                os.fsync(temporary.fileno())
                if path.exists():
                    _keep_readers(temporary.fileno(), path.stat())
                Path(temporary.name).replace(path)
            except BaseException:
                Path(temporary.name).unlink()
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
