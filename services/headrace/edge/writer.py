"""The sending half of a connection: a caller who does not read what is written is cut off."""

import asyncio
from contextlib import suppress

from headrace.edge.answers import CONTINUE

__all__ = ["Writer"]


class Writer:
    """Writes to one connection's transport; `timeout_s` bounds each wait for the caller to read."""

    __slots__ = ("_close_timer", "_timeout_s", "_write_timer", "resumed", "transport")

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.transport: asyncio.Transport | None = None  # while it is open
        self.resumed: asyncio.Future[None] | None = None  # only while the caller does not read
        self._write_timer: asyncio.TimerHandle | None = None
        self._close_timer: asyncio.TimerHandle | None = None

    def write_continue(self) -> None:
        if self.transport is not None:
            self.transport.write(CONTINUE)

    def pause(self) -> None:
        loop = asyncio.get_running_loop()
        self.resumed = loop.create_future()
        self._write_timer = loop.call_later(self._timeout_s, self.abort)

    def resume(self) -> None:
        resumed, self.resumed = self.resumed, None
        if resumed is not None and not resumed.done():
            resumed.set_result(None)
        if self._write_timer is not None:
            self._write_timer.cancel()

    def end(self) -> bool:
        """Send the end of the stream while the caller may still send; False if impossible."""
        if self.transport is None or not self.transport.can_write_eof():
            return False
        with suppress(OSError):
            self.transport.write_eof()
        return True

    def close(self) -> None:
        """Close once all that was written is sent, or cut off a caller who does not read it."""
        if self.transport is not None and self._close_timer is None:
            loop = asyncio.get_running_loop()
            self._close_timer = loop.call_later(self._timeout_s, self.abort)
            self.transport.close()

    def abort(self) -> None:
        """Cut the connection now."""
        if self.transport is not None:
            self.transport.abort()

    def lose(self) -> None:
        """Forget a transport that is gone."""
        self.transport = None
        for timer in (self._write_timer, self._close_timer):
            if timer is not None:
                timer.cancel()
