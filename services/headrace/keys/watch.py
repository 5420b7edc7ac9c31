"""Files that the server reloads when they change: the key file, the certificate."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from headrace.errors import StartFailed
from headrace.keys.file import read_keys
from headrace.keys.ring import KeyRing

__all__ = ["follow", "when_changed"]

log = logging.getLogger(__name__)

PERIOD_S = 1.0


async def follow(ring: KeyRing, path: Path) -> None:
    """Load a ring's file within two seconds of each change, until cancelled.

    A broken file leaves the old keys.
    """
    await when_changed([path], lambda: ring.load(read_keys(path)))


async def when_changed(paths: Sequence[Path], reload: Callable[[], None]) -> None:
    """Call `reload` once, and again each time one of the files changes, until cancelled.

    A StartFailed of `reload` is logged, once per change. Each file costs one `stat` a second, on
    the loop.
    """
    seen = None
    while True:
        # First stat, then read: a change in between is found by the next stat.
        found = [_identity(path) for path in paths]
        if found != seen:
            seen = found
            try:
                reload()
            except StartFailed as error:
                log.warning("not reloaded, the old content stays in use: %s", error)
        await asyncio.sleep(PERIOD_S)


def _identity(path: Path) -> tuple[int, ...] | None:
    """Values that change with the file; `st_ctime_ns` also with its mode."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
