"""This user's private folder in the temporary one, for sockets and for a folder of each run.

Nobody else can read, rename or replace its content, whatever modes Ray gives to its own files.
"""

import fcntl
import os
import shutil
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from headrace.errors import StartFailed

__all__ = ["begin_run", "own_folder"]

# Ended runs whose logs stay; older ones are removed when the next run begins. A supervisor tries
# this often in a row, and the log of its first failure is the one to read.
KEPT_RUNS = 10
# A younger socket may not be listening yet.
_NEW_S = 60.0
# A Unix socket's path has at most 107 bytes; the longest of Ray's needs this many of them below a
# run's folder.
_RAYS_PART = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
_MAX_RUN = 107 - _RAYS_PART


def own_folder(base: Path | None = None) -> Path:
    """The folder, of mode 0700, in `base`: the temporary folder, or /tmp if that is too long.

    Raises StartFailed if it is not private, because another user may have created it first.
    """
    base = base or _base()
    folder = base / _name()
    try:
        _check_base(base)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            found = "a folder" if stat.S_ISDIR(status.st_mode) else "something else"
            raise StartFailed(
                f"{folder}: expected a folder of user {os.getuid()}, "
                f"found {found} of user {status.st_uid}; "
                "remove it, or set TMPDIR to another folder"
            )
        folder.chmod(0o700)
    except OSError as error:
        raise StartFailed(
            f"cannot make {folder}: {error.strerror}; set TMPDIR to another folder"
        ) from None
    return folder


def _name() -> str:
    return f"headrace-{os.getuid()}"


def _base() -> Path:
    base = Path(tempfile.gettempdir())
    longest = base / _name() / "run-abcdefgh"
    return base if len(os.fsencode(longest)) <= _MAX_RUN else Path("/tmp")  # noqa: S108 - its mode is checked


def _check_base(base: Path) -> None:
    """Raise StartFailed if another user could replace `base` or its content."""
    # In a user namespace the machine's root has another number.
    trusted = {0, os.getuid(), Path("/").stat().st_uid}
    base = base.resolve()
    for folder in (base, *base.parents):
        status = folder.stat()
        if status.st_uid not in trusted:
            found = f"one of user {status.st_uid}"
        elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
            found = f"mode {stat.S_IMODE(status.st_mode):04o}"
        else:
            continue
        raise StartFailed(
            f"{folder}: expected a folder of root or of user {os.getuid()} "
            f"in which only owners can replace files (chmod +t), found {found}; "
            "set TMPDIR to another folder"
        )


def begin_run(base: Path | None = None) -> Path:
    """A new folder for one run of a platform, locked until this process ends.

    Raises StartFailed.

    The lock keeps the next run and systemd-tmpfiles from removing it. Ray will give it mode 0777,
    but its parent's mode of 0700 protects it.
    """
    folder = own_folder(base)
    _remove_old_runs(folder)
    try:
        run = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    except OSError as error:
        raise StartFailed(f"cannot make a folder in {folder}: {error.strerror}") from None
    _lock(run)
    _remove_dead_sockets(folder, run.stat().st_mtime - _NEW_S)
    return run


def _remove_old_runs(folder: Path) -> None:
    """Remove ended runs but the last few, one of which may just begin and not be locked yet."""
    runs = sorted(folder.glob("run-*"), key=_changed_s, reverse=True)
    for run in runs[KEPT_RUNS:]:
        if (lock := _lock(run)) is not None:
            shutil.rmtree(run, ignore_errors=True)
            os.close(lock)


def _remove_dead_sockets(folder: Path, before_s: float) -> None:
    """Remove sockets older than `before_s` on which nobody listens: those of killed replicas."""
    for path in folder.glob("*.sock"):
        with suppress(OSError):  # removed by another run that begins
            if path.stat().st_mtime < before_s and _is_deserted(path):
                path.unlink()


def _is_deserted(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except BlockingIOError:  # its backlog is full
            return False
    return False


def _changed_s(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:  # removed by another run that begins
        return 0.0


def _lock(run: Path) -> int | None:
    """Lock a folder while the returned descriptor is open; None if a live process has locked it."""
    try:
        descriptor = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
