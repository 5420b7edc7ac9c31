"""This user's own folder in the temporary one: the channels' sockets, and a folder for each run of a platform.

What lies in it nobody else may read, rename or put in its place, whatever modes Ray gives to its own.
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

# Runs that have ended and whose logs stay; older ones go when the next run begins. As many as a supervisor tries in a
# row: the log of the failure that began it is the one to read.
KEPT_RUNS = 10
# A socket that is younger may not be listened on yet.
_NEW_S = 60.0
# A Unix socket's path has 107 bytes at most, of which the longest of Ray's takes these within a run's folder.
_RAYS_PART = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
_MAX_RUN = 107 - _RAYS_PART


def own_folder(base: Path | None = None) -> Path:
    """The folder, of mode 0700, in `base`: the temporary folder, or /tmp where a socket's path would be too long.

    Raises StartFailed if it is not this user's alone: another may have made it first.
    """
    base = base or _base()
    folder = base / _name()
    try:
        _check_base(base)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            found = "a folder" if stat.S_ISDIR(status.st_mode) else "no folder, but something"
            raise StartFailed(
                f"{folder}: expected a folder of user {os.getuid()}, found {found} of user {status.st_uid}; "
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
    return base if len(os.fsencode(longest)) <= _MAX_RUN else Path("/tmp")  # noqa: S108 - it is looked at


def _check_base(base: Path) -> None:
    """Raises StartFailed if another user could put something else in the place of `base` or of what lies in it."""
    trusted = {
        0,
        os.getuid(),
        Path("/").stat().st_uid,
    }  # in a user namespace the machine's root has another number
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
            f"{folder}: expected a folder of root or of user {os.getuid()} whose entries are their owners' (chmod +t), "
            f"found {found}, where others may replace them; set TMPDIR to another folder"
        )


def begin_run(base: Path | None = None) -> Path:
    """A new folder for one run of a platform, held until this process ends. Raises StartFailed.

    Being held keeps it from whoever cleans up: from the next run's beginning, and from systemd-tmpfiles. Ray will give
    it mode 0777; that it lies in a folder of 0700 is what protects it.
    """
    folder = own_folder(base)
    _forget_runs(folder)
    try:
        run = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    except OSError as error:
        raise StartFailed(f"cannot make a folder in {folder}: {error.strerror}") from None
    _hold(run)
    _forget_sockets(folder, run.stat().st_mtime - _NEW_S)
    return run


def _forget_runs(folder: Path) -> None:
    """Remove the runs that have ended, but for the last few, of which one may just begin and is not held yet."""
    runs = sorted(folder.glob("run-*"), key=_changed_s, reverse=True)
    for run in runs[KEPT_RUNS:]:
        if (held := _hold(run)) is not None:
            shutil.rmtree(run, ignore_errors=True)
            os.close(held)


def _forget_sockets(folder: Path, before_s: float) -> None:
    """Remove those that were made before and that nobody listens on: of replicas that were killed."""
    for path in folder.glob("*.sock"):
        with suppress(OSError):  # another run's beginning has removed it
            if path.stat().st_mtime < before_s and _is_deserted(path):
                path.unlink()


def _is_deserted(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except BlockingIOError:  # many wait there
            return False
    return False


def _changed_s(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:  # another run's beginning has removed it
        return 0.0


def _hold(run: Path) -> int | None:
    """Lock a folder for as long as the descriptor given is open; None if a process that lives holds it."""
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
