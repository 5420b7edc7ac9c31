"""The life of `headrace serve`: what ends it, and with which exit code, whatever the rest of the process waits for.

Signals and lost processes of Ray are seen by a thread of its own: the main thread may be deep in a call of Ray's, which
comes back after a minute or never when Ray's head process is gone.
"""

import logging
import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import NoReturn, Protocol

from headrace.commands.terminal import err
from headrace.process.lifeline import Lifeline
from headrace.process.tree import Vital, kill_below

__all__ = ["NODE_LOST", "Life"]

log = logging.getLogger(__name__)

# The exit code when Ray's node is lost: in sysexits.h it means "try again", and a supervisor should.
NODE_LOST = 75

_LOOK_S = 0.5
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# One wish to end may come as several signals: `timeout` tells its child and then its group, a shell its jobs.
_AGAIN_S = 1.0


class Watched(Protocol):
    def lost(self) -> str:
        """Why there is no going on, in one line; empty as long as there is."""
        ...


class Life:
    """Until `serves`, a signal ends a lone node at once; after it the first sets `ended`, and one that
    comes a second later or more ends it.

    `code` is the exit code of an end in order. Where nodes are not this process's own, no signal ends them.
    """

    def __init__(
        self,
        lifeline: Path | None,
        drain_s: float,
        vital: Watched | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """In the main thread. `lifeline` is the socket's path on a lone node, and None on a cluster.

        Gateways have `drain_s` to drain when the node is lost.
        """
        self.ended = threading.Event()
        self.code = 0
        self.serves = False
        self.watches = False  # True while Ray's processes should be there
        self._lifeline = Lifeline(lifeline) if lifeline else None
        self._drain_s = drain_s
        self._vital = vital or Vital(("gcs_server", "raylet"))
        self._clock = clock
        self._first_s: float | None = None  # when the first signal came
        self._is_lost = False
        self._has_failed = False
        self._signals, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        self.take_signals()
        threading.Thread(target=self._run, name="life", daemon=True).start()
        # The thread above sees it. Who is started from here inherits the mask: a terminal that is closed tells its
        # whole group, and an end in order needs Ray's processes.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})

    @staticmethod
    def take_signals() -> None:
        """In the main thread, and once more when Ray has started: it puts handlers of its own in place, which abort."""
        for number in _SIGNALS:
            if (
                number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
            ):  # as nohup has it
                signal.signal(number, lambda *_: None)  # the wakeup descriptor tells

    def _end_now(self, code: int) -> NoReturn:
        """End this process and, on a lone node, all below it, whatever they do."""
        try:
            if self._lifeline:
                kill_below(os.getpid())
            err.show_cursor()
        finally:
            os._exit(code)

    def _run(self) -> None:
        while True:
            try:
                self._look()
                self._has_failed = False
            except Exception:  # nobody else looks
                if not self._has_failed:
                    log.exception("a look failed, and the next ones follow")
                self._has_failed = True

    def _look(self) -> None:
        if select.select([self._signals], [], [], _LOOK_S)[0]:
            for number in self._signals.recv(64):
                self._signalled(number)
        if self._lifeline and not self._is_lost:
            if self.watches and (reason := self._vital.lost()):
                self.watches = False
                self._is_lost = True
                threading.Thread(
                    target=self._lose, args=(reason,), name="loss", daemon=True
                ).start()
            else:  # the loss takes them up itself
                self._lifeline.keep()

    def _signalled(self, number: int) -> None:
        if number not in _SIGNALS or self._is_repeated():
            return
        if not self.serves:
            self.code = 128 + number
        is_ending = self.ended.is_set() or self._is_lost
        if is_ending or (self._lifeline and not self.serves):
            err.print(f"headrace: ended {'at once' if is_ending else 'before it was ready'}")
            self._end_now(128 + number)
        self.ended.set()

    def _is_repeated(self) -> bool:
        """It belongs to the first signal."""
        now_s = self._clock()
        if self._first_s is None:
            self._first_s = now_s
            return False
        return now_s - self._first_s < _AGAIN_S

    def _lose(self, reason: str) -> None:
        assert self._lifeline
        err.print(
            f"headrace: Ray's node is lost: {reason}; draining, to end with exit code {NODE_LOST}",
            markup=False,
        )
        if late := self._lifeline.end(self._drain_s):
            err.print(
                f"headrace: gateways that had not answered all they accepted in {self._drain_s:g} s: {late}"
            )
        self._end_now(NODE_LOST)
