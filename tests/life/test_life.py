"""A life of `headrace serve`, in a process of its own that gets real signals; a file says that Ray's node is lost."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import monotonic

import pytest

SOON_S = 60.0

# A platform with a child. It reads its orders: "serve", or "gateway" to start a holder of its lifeline.
PLATFORM = """
import os, subprocess, sys, threading, time
from pathlib import Path
from headrace.life import Life

folder, stubborn = Path(sys.argv[1]), sys.argv[2] == "stubborn"

class Node:
    def lost(self):
        return "the head is gone" if (folder / "lost").exists() else ""

life = Life(None if sys.argv[2] == "cluster" else folder / "lifeline", 30.0, Node())
life.watches = True
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)

def orders():
    for line in sys.stdin:
        if line == "serve\\n":
            life.serves = True
        print("done", flush=True)

threading.Thread(target=orders, daemon=True).start()
life.ended.wait()
print("ended", flush=True)
if stubborn:
    threading.Event().wait()
child.kill()
os._exit(life.code)
"""


class Platform:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.child = int(self.line())

    def line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def serve(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("serve\n")
        self._process.stdin.flush()
        assert self.line() == "done"

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """The exit code, once it and its child are gone, and what it said."""
        assert self._process.stderr
        code, said = self._process.wait(SOON_S), self._process.stderr.read()
        until(lambda: not Path(f"/proc/{self.child}").exists() or self._is_dead())
        return code, said

    def _is_dead(self) -> bool:
        try:
            return " Z " in Path(f"/proc/{self.child}/stat").read_text(encoding="utf-8")
        except OSError:
            return True


def until(is_so: Callable[[], bool]) -> None:
    deadline_s = monotonic() + SOON_S
    while not is_so():
        assert monotonic() < deadline_s
        Event().wait(0.02)


@contextmanager
def living(folder: Path, kind: str) -> Iterator[Platform]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PLATFORM, str(folder), kind]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield Platform(process)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_start_at_once_with_all_that_it_started(tmp_path: Path, number: signal.Signals) -> None:
    with living(tmp_path, "stubborn") as platform:
        platform.tell(number)
        assert platform.end() == (128 + number, "headrace: ended before it was ready\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_ends_a_platform_that_serves_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with living(tmp_path, "lone") as platform:
        platform.serve()
        platform.tell(number)
        assert platform.line() == "ended"
        assert platform.end() == (0, "")


@pytest.mark.parametrize(("first", "second"), [("SIGTERM", "SIGINT"), ("SIGINT", "SIGINT"), ("SIGINT", "SIGTERM")])
def test_the_second_signal_ends_it_at_once_whatever_it_waits_for(tmp_path: Path, first: str, second: str) -> None:
    with living(tmp_path, "stubborn") as platform:
        platform.serve()
        platform.tell(signal.Signals[first])
        assert platform.line() == "ended"
        platform.tell(signal.Signals[second])
        assert platform.end() == (128 + signal.Signals[second], "headrace: ended at once\n")


def test_on_a_cluster_a_start_is_undone_in_order(tmp_path: Path) -> None:
    with living(tmp_path, "cluster") as platform:
        platform.tell(signal.SIGINT)
        assert platform.line() == "ended"
        assert platform.end() == (130, "")


@pytest.mark.parametrize("is_serving", [True, False])
def test_a_lost_node_ends_it_with_a_line_and_a_code_of_its_own(tmp_path: Path, is_serving: bool) -> None:
    with living(tmp_path, "stubborn") as platform:
        if is_serving:
            platform.serve()
        (tmp_path / "lost").touch()
        line = "headrace: Ray's node is lost: the head is gone; draining, to end with exit code 75\n"
        assert platform.end() == (75, line)


def test_a_signal_while_a_lost_node_drains_ends_it_at_once(tmp_path: Path) -> None:
    with living(tmp_path, "stubborn") as platform, socket.socket(socket.AF_UNIX) as gateway:
        platform.serve()
        gateway.connect(str(tmp_path / "lifeline"))
        (tmp_path / "lost").touch()
        gateway.settimeout(SOON_S)
        assert gateway.recv(1) == b""  # it is told to drain, and does not
        platform.tell(signal.SIGTERM)
        code, said = platform.end()
        assert (code, said.splitlines()[-1]) == (143, "headrace: ended at once")
