"""A line from the process that started the platform to its gateways: when it ends, so do they, whatever Ray does.

Serve ends them in any ordinary case. But it needs Ray's head process, and when that is lost nobody is asked any more.
Nothing is sent over the line: the platform's end of it is closed, and a gateway closes its own when it has drained.
"""

import asyncio
import logging
import socket
from contextlib import suppress
from pathlib import Path
from time import monotonic

__all__ = ["Lifeline", "hold"]

log = logging.getLogger(__name__)

_BACKLOG = 128


class Lifeline:
    """The platform's end. `keep` must be called now and then, since gateways come and go."""

    def __init__(self, path: Path) -> None:
        """Listen at `path`, which must lie in a folder of this user's alone."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)
        self._held: list[socket.socket] = []

    def keep(self) -> None:
        """Take up those who came, forget those who went."""
        with suppress(
            OSError
        ):  # nobody is left, or no descriptor is free, and they wait in the backlog
            while True:
                self._held.append(self._listener.accept()[0])
        self._held = [held for held in self._held if not _has_gone(held, 0.0)]

    def end(self, timeout_s: float) -> int:
        """Have every gateway drain, and wait for that; how many had not in time."""
        deadline_s = monotonic() + timeout_s
        self.keep()
        self._listener.close()
        for held in self._held:
            with suppress(OSError):
                held.shutdown(socket.SHUT_WR)
        return sum(not _has_gone(held, max(0.0, deadline_s - monotonic())) for held in self._held)


def _has_gone(held: socket.socket, timeout_s: float) -> bool:
    """Wait until the other end is closed: a gateway sends nothing before. Then this end is closed, too."""
    held.settimeout(timeout_s)
    try:
        held.recv(1)
    except (BlockingIOError, TimeoutError):
        return False
    except OSError:
        pass
    held.close()
    return True


async def hold(path: Path, stop: asyncio.Event) -> None:
    """A gateway's end: set `stop` when the platform ends, and stay until this is cancelled."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError as error:
        log.warning("no lifeline to the platform: %s", error)
        return
    try:
        with suppress(OSError):  # reset, where it had not been taken up yet
            await reader.read(1)
        stop.set()
        await asyncio.Event().wait()
    finally:
        writer.close()
