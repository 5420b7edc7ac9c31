"""A lifeline from the process that started the platform to its gateways, which drain when it ends.

Usually Serve ends the gateways. But Serve needs Ray's head process, and without that nobody would
tell them to end. Nothing is sent over the lifeline: the platform closes its end, and a gateway
closes its own when it has drained.
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
    """The platform's end. Call `keep` now and then, since gateways come and go."""

    def __init__(self, path: Path) -> None:
        """Listen at `path`, which must lie in a private folder of this user."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)
        self._held: list[socket.socket] = []

    def keep(self) -> None:
        """Accept gateways that connected, and forget those that have gone."""
        # OSError: no gateway is left to accept, or no descriptor is free and they stay in the
        # backlog.
        with suppress(OSError):
            while True:
                self._held.append(self._listener.accept()[0])
        self._held = [held for held in self._held if not _has_gone(held, 0.0)]

    def end(self, timeout_s: float) -> int:
        """Have every gateway drain; returns the number that did not drain in time."""
        deadline_s = monotonic() + timeout_s
        self.keep()
        self._listener.close()
        for held in self._held:
            with suppress(OSError):
                held.shutdown(socket.SHUT_WR)
        return sum(not _has_gone(held, max(0.0, deadline_s - monotonic())) for held in self._held)


def _has_gone(held: socket.socket, timeout_s: float) -> bool:
    """Wait until a gateway closes its end, having sent nothing; then close this end too."""
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
    """The gateway's end: set `stop` when the platform ends, and hold on until cancelled."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError as error:
        log.warning(
            "could not connect to the platform's lifeline: %s; "
            "this gateway will not drain if Ray's head process ends first",
            error,
        )
        return
    try:
        with suppress(OSError):  # reset, if it was not accepted yet
            await reader.read(1)
        stop.set()
        await asyncio.Event().wait()
    finally:
        writer.close()
