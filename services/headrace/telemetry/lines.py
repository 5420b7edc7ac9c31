"""Lines on their way to a file that may be full, blocked or gone: whoever has one neither waits for it nor fails."""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread

__all__ = ["LineWriter", "Write"]

# As os.write: writes some of the bytes, and says how many. Raises OSError.
Write = Callable[[bytes], int]

MAX_WAITING = 1024
_FLUSH_S = 1.0


class LineWriter:
    """Writes whole lines from a thread of its own. Those that find no room are dropped and counted.

    `notice` says a number of dropped lines in a line, which is written as soon as there is room.
    `put` is for one thread at a time, which may come again while it is in there: a garbage collection can run anywhere,
    and what it ends may log. So what waits is in a SimpleQueue, the one kind that bears this.
    """

    def __init__(self, write: Write, notice: Callable[[int], bytes]) -> None:
        self._write = write
        self._notice = notice
        self._waiting: SimpleQueue[bytes | Event | None] = SimpleQueue()
        self._crowded_out = self._failed = self._noticed = 0
        self._is_mid_line = False
        Thread(target=self._work, name="log lines", daemon=True).start()

    @property
    def dropped(self) -> int:
        """How many lines so far."""
        return self._crowded_out + self._failed

    def put(self, line: bytes) -> None:
        if self._waiting.qsize() < MAX_WAITING:
            self._waiting.put(line)
        else:
            self._crowded_out += 1

    def flush(self) -> None:
        """Wait until what was put is written or dropped; for a moment only, if the file is blocked."""
        passed = Event()
        self._waiting.put(passed)
        passed.wait(_FLUSH_S)

    def close(self) -> None:
        """End the thread once it has written what was put; it ends with the process if it cannot."""
        self._waiting.put(None)

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            if isinstance(item, Event):
                item.set()
            else:
                self._settle(item)

    def _settle(self, line: bytes) -> None:
        try:
            if (lost := self.dropped - self._noticed) > 0:
                self._put_out(self._notice(lost))
                self._noticed += lost
            self._put_out(line)
        except OSError:
            self._failed += 1

    def _put_out(self, line: bytes) -> None:
        """Write it all. A line of which the end found no room is ended before the next one."""
        left = b"\n" + line if self._is_mid_line else line
        while left:
            written = self._write(left)
            self._is_mid_line = left[:written][-1:] != b"\n"
            left = left[written:]
