"""The connections of a replica whose other ends have not proven yet that they are gateways."""

import asyncio

from headrace.channel.frame_stream import FrameStream
from headrace.channel.frames import Hello, Welcome
from headrace.channel.greeting import answer_to

__all__ = ["GREET_S", "MAX_GREETED", "MAX_STRANGERS", "Strangers"]

# A gateway greets at once; others are cut off after this many seconds, or when more than
# MAX_STRANGERS are connected: the oldest first. Many can come in one tick, and a gateway among them
# must not be the oldest before its greeting is read.
GREET_S = 5.0
MAX_STRANGERS = 256
# The greetings that are remembered so that they open nothing again. Only who has the token adds to
# them.
MAX_GREETED = 1 << 16


class Strangers:
    """Strangers are told nothing and cut off soon, unless their Hello proves them gateways.

    `name` is the replica's in greetings.
    """

    def __init__(self, welcome: Welcome, token: str, name: str) -> None:
        self._welcome = welcome
        self._token = token
        self._name = name
        self._timers: dict[FrameStream, asyncio.TimerHandle] = {}  # the oldest first
        self._greeted: dict[bytes, None] = {}  # nonces, the oldest first

    def __len__(self) -> int:
        return len(self._timers)

    def add(self, stranger: FrameStream) -> None:
        loop = asyncio.get_running_loop()
        self._timers[stranger] = loop.call_later(GREET_S, stranger.abort)
        if len(self._timers) > MAX_STRANGERS:
            oldest = next(iter(self._timers))
            self.remove(oldest)
            oldest.abort()

    def remove(self, stranger: FrameStream) -> None:
        if timer := self._timers.pop(stranger, None):
            timer.cancel()

    def answer_to(self, hello: Hello) -> Welcome | None:
        """The welcome of a gateway; None if its MAC is not valid, or was used before."""
        welcome = answer_to(hello, self._welcome, self._token, self._name)
        if welcome is None or hello.nonce in self._greeted:
            return None
        self._greeted[hello.nonce] = None
        if len(self._greeted) > MAX_GREETED:
            del self._greeted[next(iter(self._greeted))]
        return welcome

    def abort(self) -> None:
        """Cut all of them off."""
        for stranger in list(self._timers):
            stranger.abort()
