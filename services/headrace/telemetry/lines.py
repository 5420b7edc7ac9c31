"""Lines for a file that may be full, blocked or gone; the caller neither waits nor fails."""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread

__all__ = ["LineWriter", "Write"]

# Like os.write: writes some of the bytes and returns how many. Raises OSError.
Write = Callable[[bytes], int]

MAX_WAITING = 1024
_FLUSH_S = 1.0


class LineWriter:
    """Writes complete lines from a thread of its own; drops and counts those that find no room.

    `notice` makes a line about a number of dropped lines, which is written as soon as there is
    room. `put` is for one thread at a time but must be reentrant: garbage collection can run
    anywhere, and a finalizer may log. Hence the SimpleQueue, the only reentrant queue.
    """

    def __init__(self, write: Write, notice: Callable[[int], bytes]) -> None:
        self._write = write
        self._notice = notice
        self._waiting: SimpleQueue[bytes | Event | None] = SimpleQueue()
        self._crowded_out = 0
        self._failed = 0
        self._noticed = 0
        self._is_mid_line = False
        Thread(target=self._work, name="log lines", daemon=True).start()

    @property
    def dropped(self) -> int:
        """The number of dropped lines so far."""
        return self._crowded_out + self._failed

    def put(self, line: bytes) -> None:
        if self._waiting.qsize() < MAX_WAITING:
            self._waiting.put(line)
        else:
            self._crowded_out += 1

    def flush(self) -> None:
        """Wait until earlier lines are written or dropped, or for a moment."""
        passed = Event()
        self._waiting.put(passed)
        passed.wait(_FLUSH_S)

    def close(self) -> None:
        """End the thread after the earlier lines, or with the process if it cannot write."""
        self._waiting.put(None)

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            if isinstance(item, Event):
                item.set()
            else:
                self._write_line(item)

    def _write_line(self, line: bytes) -> None:
        try:
            if (lost := self.dropped - self._noticed) > 0:
                self._write_all(self._notice(lost))
                self._noticed += lost
            self._write_all(line)
        except OSError:
            self._failed += 1

    def _write_all(self, line: bytes) -> None:
        """Write all of it, after ending an earlier line whose end found no room."""
        left = b"\n" + line if self._is_mid_line else line
        while left:
            written = self._write(left)
            self._is_mid_line = left[:written][-1:] != b"\n"
            left = left[written:]
