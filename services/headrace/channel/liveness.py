"""The liveness of a replica, by its answers to pings."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from headrace.channel.frame_stream import FrameStream
from headrace.channel.frames import Ping, Pong
from headrace.errors import Overloaded

__all__ = ["Liveness"]

PING_PERIOD_S = 0.5
# A replica is avoided after SILENT_S of unanswered pings, and cut off after LOST_S. Pings are
# counted, not seconds, since a gateway that did not run for a while has sent no pings meanwhile.
SILENT_S = 1.5
LOST_S = 10.0
_SILENT_PINGS = round(SILENT_S / PING_PERIOD_S)
_LOST_PINGS = round(LOST_S / PING_PERIOD_S)


class Liveness:
    """Pings a replica from `start` to `stop`. `is_ready` is what its last Pong says.

    `known` is set once the replica has answered a ping; `on_change` is called when it may have
    become ready.
    """

    def __init__(self, frame_stream: FrameStream) -> None:
        self._frame_stream = frame_stream
        self._loop = asyncio.get_running_loop()
        self._unanswered = 0  # pings since a frame came
        self._timer: asyncio.TimerHandle | None = None
        self.is_ready = False
        self.known = asyncio.Event()
        self.on_change: Callable[[], None] = _nothing

    @property
    def is_silent(self) -> bool:
        return self._unanswered > _SILENT_PINGS

    def start(self) -> None:
        self._ping()

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()

    def frame_came(self) -> None:
        if self.is_silent:
            self._loop.call_soon(self.on_change)
        self._unanswered = 0

    def pong_came(self, pong: Pong) -> None:
        if pong.is_ready and not self.is_ready:
            self._loop.call_soon(self.on_change)
        self.is_ready = pong.is_ready
        self.known.set()

    def _ping(self) -> None:
        if not self._frame_stream.is_open:
            return
        if self._unanswered > _LOST_PINGS:
            self._frame_stream.abort()
            return
        self._unanswered += 1
        self._timer = self._loop.call_later(PING_PERIOD_S, self._ping)
        with suppress(Overloaded):  # it reads nothing, which is silence, too
            self._frame_stream.send(Ping())


def _nothing() -> None: ...
