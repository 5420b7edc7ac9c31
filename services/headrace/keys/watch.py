"""Files that are followed while the server runs: the key file, and whatever else is read again when it changes."""

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
    """Keep a ring as its file says, within two seconds, until cancelled. While the file is broken the old keys stay."""
    await when_changed([path], lambda: ring.load(read_keys(path)))


async def when_changed(paths: Sequence[Path], reload: Callable[[], None]) -> None:
    """Call `reload` once, and again each time one of the files has become another, until cancelled.

    A StartFailed of `reload` is logged, once a change. A look is one `stat` a second of each file, on the loop.
    """
    seen = None
    while True:
        # First look, then read: a change in between is seen at the next look.
        if (found := [_look(path) for path in paths]) != seen:
            seen = found
            try:
                reload()
            except StartFailed as error:
                log.warning("kept as it was: %s", error)
        await asyncio.sleep(PERIOD_S)


def _look(path: Path) -> tuple[int, ...] | None:
    """What differs between a file and its successor; the time of its status tells of a mode put right, too."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
