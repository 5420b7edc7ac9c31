"""The life of `headrace serve`, in a process that gets real signals; a file signals a lost node."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import monotonic

import pytest
from tests.life.deaf import DEAF, WAYS

SOON_S = 60.0
LOST = "headrace: Ray's node is lost: the head is gone; draining, then exiting with code 75"

# A platform with a child. It reads its orders: "serve", or "gateway" to start a holder of its
# lifeline.
PLATFORM = """
import os, resource, subprocess, sys, threading, time
from pathlib import Path
from headrace.commands.life import Life
from headrace.commands.terminal import divert, err

folder, stubborn = Path(sys.argv[1]), sys.argv[2] == "stubborn"
now_s = [0.0]
words = os.fdopen(os.dup(1), "w", buffering=1)

def clock():
    at_s = now_s[0]
    with (folder / "signals").open("a") as seen:
        print(at_s, file=seen)
    return at_s

class Node:
    failures = 0

    def lost(self):
        if (folder / "broken").exists() and self.failures < 3:
            self.failures += 1
            raise RuntimeError("there is no looking")
        return "the head is gone" if (folder / "lost").exists() else ""

if len(sys.argv) > 3:
    deafen(sys.argv[3])
    divert(folder / "log")
life = Life(None if sys.argv[2] == "cluster" else folder / "lifeline", 30.0, Node(), clock)
life.watches = True
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, file=words)

def orders():
    for line in sys.stdin:
        if line == "serve\\n":
            life.serves = True
        if line == "later\\n":
            now_s[0] += 1.0
        if line == "starve\\n":
            err.print("starving")  # with all that words take
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        print("done", file=words)

threading.Thread(target=orders, daemon=True).start()
life.ended.wait()
print("ended", file=words)
if stubborn:
    threading.Event().wait()
child.kill()
os._exit(life.code)
"""


class Platform:
    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process = process
        self._folder = folder
        self.child = int(self.line())

    def line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def order(self, order: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        assert self.line() == "done"

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def tell_and_wait(self, number: signal.Signals) -> None:
        """Wait until the signal is handled: two pending ones count as one."""
        before = self._seen()
        self.tell(number)
        until(lambda: self._seen() > before)

    def _seen(self) -> int:
        seen = self._folder / "signals"
        return len(seen.read_text(encoding="utf-8").splitlines()) if seen.exists() else 0

    def tell_all(self, number: signal.Signals) -> None:
        """Signal the whole group, as a terminal or `timeout` does."""
        os.killpg(self._process.pid, number)

    def end(self) -> tuple[int, str]:
        """The exit code, once the process and its child are gone, and the output."""
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
def living(folder: Path, kind: str, *way: str, under: Sequence[str] = ()) -> Iterator[Platform]:
    pipe = subprocess.PIPE
    command = [*under, sys.executable, "-c", DEAF + PLATFORM, str(folder), kind, *way]
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            yield Platform(process, folder)
        finally:
            process.kill()


SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_start_at_once_with_all_that_it_started(
    tmp_path: Path, number: signal.Signals
) -> None:
    with living(tmp_path, "stubborn") as platform:
        platform.tell(number)
        assert platform.end() == (128 + number, "headrace: ended before it was ready\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_ends_a_platform_that_serves_in_order(
    tmp_path: Path, number: signal.Signals
) -> None:
    with living(tmp_path, "lone") as platform:
        platform.order("serve")
        platform.tell(number)
        assert platform.line() == "ended"
        assert platform.end() == (0, "")


@pytest.mark.parametrize(
    ("first", "second"), [("SIGTERM", "SIGINT"), ("SIGINT", "SIGINT"), ("SIGINT", "SIGTERM")]
)
def test_the_second_signal_ends_it_at_once(tmp_path: Path, first: str, second: str) -> None:
    with living(tmp_path, "stubborn") as platform:
        platform.order("serve")
        platform.tell(signal.Signals[first])
        assert platform.line() == "ended"
        platform.order("later")
        platform.tell(signal.Signals[second])
        assert platform.end() == (128 + signal.Signals[second], "headrace: ended at once\n")


@pytest.mark.parametrize(("first", "second"), [("SIGTERM", "SIGTERM"), ("SIGINT", "SIGTERM")])
def test_one_wish_that_comes_as_several_signals_is_one(
    tmp_path: Path, first: str, second: str
) -> None:
    with living(tmp_path, "stubborn") as platform:
        platform.order("serve")
        for number in (first, second, first, second):
            platform.tell_and_wait(signal.Signals[number])
        assert platform.line() == "ended"
        platform.order("later")  # it goes on and obeys
        platform.tell(signal.SIGINT)
        assert platform.end() == (130, "headrace: ended at once\n")


def test_a_terminal_that_is_closed_ends_it_in_order_and_its_processes_last_as_long(
    tmp_path: Path,
) -> None:
    with living(tmp_path, "lone") as platform:
        platform.order("serve")
        masks = Path(f"/proc/{platform.child}/status").read_text(encoding="utf-8")
        assert int(masks.partition("SigBlk:")[2].split()[0], 16) & 1  # SIGHUP waits
        platform.tell_all(signal.SIGHUP)
        assert platform.line() == "ended"
        assert platform.end() == (0, "")


def test_under_nohup_a_terminal_that_is_closed_ends_nothing(tmp_path: Path) -> None:
    with living(tmp_path, "lone", under=["nohup"]) as platform:
        platform.tell(signal.SIGHUP)
        platform.order("serve")
        platform.tell(signal.SIGTERM)
        assert platform.line() == "ended"
        code, _ = platform.end()
        assert code == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.slow("waits for seconds on the real clock")
def test_signals_are_obeyed_whether_its_words_are_heard_or_not(tmp_path: Path, way: str) -> None:
    with living(tmp_path, "stubborn", way) as platform:
        platform.tell(signal.SIGTERM)
        assert platform.end()[0] == 143
    (tmp_path / "lifeline").unlink()
    with living(tmp_path, "stubborn", way) as platform:
        platform.order("serve")
        platform.tell(signal.SIGTERM)
        assert platform.line() == "ended"
        platform.order("later")
        platform.tell(signal.SIGINT)
        assert platform.end()[0] == 130


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.slow("waits for seconds on the real clock")
def test_a_lost_node_ends_it_whether_its_words_are_heard_or_not(tmp_path: Path, way: str) -> None:
    with living(tmp_path, "stubborn", way) as platform:
        platform.order("serve")
        (tmp_path / "lost").touch()
        assert platform.end()[0] == 75


def test_a_lost_node_is_seen_where_no_descriptor_is_free(tmp_path: Path) -> None:
    with living(tmp_path, "stubborn") as platform:
        platform.order("serve")
        platform.order("starve")
        os.kill(platform.child, signal.SIGKILL)  # who has no descriptor sees no processes
        (tmp_path / "lost").touch()
        code, said = platform.end()
        assert (code, said.splitlines()[:2]) == (75, ["starving", LOST])


@pytest.mark.slow("waits for seconds on the real clock")
def test_looks_that_fail_in_a_row_are_logged_once_and_others_follow(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    (tmp_path / "lost").touch()
    with living(tmp_path, "stubborn") as platform:
        code, said = platform.end()
        assert (code, said.count("Traceback"), said.splitlines()[-1]) == (75, 1, LOST)


def test_on_a_cluster_a_start_is_undone_in_order(tmp_path: Path) -> None:
    with living(tmp_path, "cluster") as platform:
        platform.tell(signal.SIGINT)
        assert platform.line() == "ended"
        assert platform.end() == (130, "")


@pytest.mark.parametrize("is_serving", [True, False])
def test_a_lost_node_ends_it_with_a_line_and_a_code_of_its_own(
    tmp_path: Path, is_serving: bool
) -> None:
    with living(tmp_path, "stubborn") as platform:
        if is_serving:
            platform.order("serve")
        (tmp_path / "lost").touch()
        assert platform.end() == (75, f"{LOST}\n")


def test_a_signal_while_a_lost_node_drains_ends_it_at_once(tmp_path: Path) -> None:
    with living(tmp_path, "stubborn") as platform, socket.socket(socket.AF_UNIX) as gateway:
        platform.order("serve")
        gateway.connect(str(tmp_path / "lifeline"))
        (tmp_path / "lost").touch()
        gateway.settimeout(SOON_S)
        assert gateway.recv(1) == b""  # it is told to drain, and does not
        platform.tell(signal.SIGTERM)
        code, said = platform.end()
        assert (code, said.splitlines()[-1]) == (143, "headrace: ended at once")
