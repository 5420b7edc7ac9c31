"""The time by which a caller is to send the next part of a request."""

import asyncio
from collections.abc import Callable

from headrace.edge.limits import EdgeLimits
from headrace.edge.receiver import BODY, HEAD, NOTHING, REQUEST, Part
from headrace.process.lazy_timer import LazyTimer

__all__ = ["ReceiptDeadline"]


class ReceiptDeadline:
    """Calls `due` when a caller has not sent `part` in time; `at_s` is on the loop's clock."""

    __slots__ = ("_clock", "_limits_s", "_timer", "at_s", "part")

    def __init__(self, limits: EdgeLimits, due: Callable[[], None]) -> None:
        self._limits_s = {
            REQUEST: limits.keep_alive_s,
            HEAD: limits.head_timeout_s,
            BODY: limits.body_timeout_s,
        }
        self._clock = asyncio.get_running_loop().time
        self._timer = LazyTimer(due, self._clock)
        self.part = NOTHING
        self.at_s = 0.0

    @property
    def limit_s(self) -> float:
        """The time that the part may take."""
        return self._limits_s[self.part[0]]

    def patience(self, transport: asyncio.Transport) -> tuple[bool, float] | None:
        """Order callers of whom nothing is arriving first, and then by deadline (see Peer)."""
        if transport.get_write_buffer_size():
            return None
        kind, requests = self.part
        is_arriving = kind in (HEAD, BODY)
        is_answered = requests > 1 if is_arriving else requests > 0
        # TLS does not say how much of an answer is still to be sent: whoever had one is kept.
        if is_answered and transport.get_extra_info("sslcontext") is not None:
            return None
        return is_arriving, self.at_s

    def follow(self, part: Part) -> None:
        """Await this part: its time begins once, however it trickles in."""
        if part != self.part:
            self.part = part
            self.at_s = self._clock() + self._limits_s[part[0]]
            self._timer.set(self.at_s)

    def set(self, seconds: float) -> None:
        """Have the time of the part end in so many seconds."""
        self.at_s = self._clock() + seconds
        self._timer.set(self.at_s)

    def cancel(self) -> None:
        self._timer.cancel()
