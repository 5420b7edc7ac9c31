"""Ends `headrace serve`, with its exit code, even while the main thread waits for Ray.

A thread of its own watches for signals and for lost processes of Ray. Without Ray's head process, a
call of Ray's in the main thread returns after a minute or never.
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
from headrace.process.tree import VitalChildren, kill_below

__all__ = ["NODE_LOST", "Life"]

log = logging.getLogger(__name__)

# The exit code when Ray's node is lost; in sysexits.h it means "try again", as supervisors should.
NODE_LOST = 75

_PERIOD_S = 0.5
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# One request to end may come as several signals: `timeout` signals its child and then its group.
_ONE_REQUEST_S = 1.0


class Watched(Protocol):
    def lost(self) -> str:
        """One line about a process that is lost; empty as long as all are there."""
        ...


class Life:
    """Watches over a serving process from its start to its end.

    Until `serves`, a signal ends a lone node at once. Later the first signal sets `ended`, and
    another one, at least a second later, ends the node at once. No signal ends nodes of a cluster.
    `code` is the exit code of an orderly end.
    """

    def __init__(
        self,
        lifeline: Path | None,
        drain_s: float,
        vital: Watched | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Call in the main thread.

        `lifeline` is the socket's path on a lone node, None on a cluster.

        When the node is lost, gateways have `drain_s` to drain.
        """
        self.ended = threading.Event()
        self.code = 0
        self.serves = False
        self.watches = False  # True while Ray's processes should be running
        self._lifeline = Lifeline(lifeline) if lifeline else None
        self._drain_s = drain_s
        self._vital = vital or VitalChildren(("gcs_server", "raylet"))
        self._clock = clock
        self._first_s: float | None = None  # when the first signal came
        self._is_lost = False
        self._has_failed = False
        self._signals, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        self.take_signals()
        threading.Thread(target=self._run, name="life", daemon=True).start()
        # The thread above still sees SIGHUP. Processes started from here inherit the mask: a
        # closing terminal signals its whole group, and an orderly end needs Ray's processes.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})

    @staticmethod
    def take_signals() -> None:
        """Call in the main thread, and again after Ray has started, whose own handlers abort."""
        for number in _SIGNALS:
            # nohup has SIGHUP ignored, and it stays so.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda *_: None)  # the wakeup descriptor reports it

    def _end_now(self, code: int) -> NoReturn:
        """Exit at once; on a lone node, kill all descendants first."""
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
            except Exception:  # the watch must go on
                if not self._has_failed:
                    log.exception("could not check the platform's processes; trying again")
                self._has_failed = True

    def _look(self) -> None:
        if select.select([self._signals], [], [], _PERIOD_S)[0]:
            for number in self._signals.recv(64):
                self._signalled(number)
        if self._lifeline and not self._is_lost:
            if self.watches and (reason := self._vital.lost()):
                self.watches = False
                self._is_lost = True
                threading.Thread(
                    target=self._lose, args=(reason,), name="loss", daemon=True
                ).start()
            else:  # after a loss, `end` accepts new gateways itself
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
        """True if the signal belongs to the same request to end as the first one."""
        now_s = self._clock()
        if self._first_s is None:
            self._first_s = now_s
            return False
        return now_s - self._first_s < _ONE_REQUEST_S

    def _lose(self, reason: str) -> None:
        assert self._lifeline
        err.print(
            f"headrace: Ray's node is lost: {reason}; draining, then exiting with code {NODE_LOST}",
            markup=False,
        )
        if late := self._lifeline.end(self._drain_s):
            err.print(f"headrace: {late} gateways did not drain within {self._drain_s:g} s")
        self._end_now(NODE_LOST)
