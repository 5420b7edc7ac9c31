"""Ends of a platform, each its own: by signal, at once, and by the loss of a Ray process."""

import os
import pty
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import orjson
import pytest
from loadtests.support.checkout import REPOSITORY
from loadtests.support.http_request import http_request
from loadtests.support.ports import free_port
from loadtests.support.proc import below, has_ended
from tests.platform.running import Platform, command, platform

pytestmark = [
    pytest.mark.ray,
    pytest.mark.zoo,
    pytest.mark.skipif(
        not (REPOSITORY / "dga-lstm").is_dir(), reason="lacks dga-lstm: run headrace models build"
    ),
]

PATH = "/v1/models/dga-lstm:classify"
BODY = orjson.dumps({"input": "wikipedia.org"})
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
# An end that hangs is seen by this; on a quiet machine the longest one here takes 6 s.
END_S = 60.0
NODE_LOST = 75


def until(is_so: Callable[[], bool], what: str) -> None:
    """Other processes tell nobody; bounded, and a look costs next to nothing."""
    deadline_s = time.monotonic() + END_S
    while not is_so():
        assert time.monotonic() < deadline_s, what
        Event().wait(0.1)


def named(running: Platform, name: str) -> int:
    return next(pid for pid, found in below(running.process.pid).items() if found.startswith(name))


@contextmanager
def asked_in_part(port: int) -> Iterator[socket.socket]:
    """A request that a gateway has accepted, and the rest of whose body is still to come."""
    with socket.create_connection(("127.0.0.1", port), timeout=END_S) as caller:
        caller.sendall(HEAD + BODY[:5])
        # Whichever gateway has it, its loop has turned often when so many others were answered.
        for _ in range(20):
            ask(port)
        yield caller


def ask(port: int, method: str = "POST", path: str = PATH, body: bytes = BODY) -> int:
    sent = body if method == "POST" else None
    return http_request(port, method, path, sent, timeout_s=END_S).status


@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_node_is_said_and_what_was_accepted_is_answered_and_nobody_is_left(
    name: str, number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    # Its workers end by themselves then, whatever they do.
    by_ray = (name, number) == (
        "raylet",
        signal.SIGKILL,
    )
    with platform("--model", "dga-lstm") as running:
        processes = below(running.process.pid)
        with asked_in_part(running.port) as caller:
            os.kill(named(running, name), number)
            if not by_ray:
                until(lambda: not accepts(running.port), "it takes nothing new")
                caller.sendall(BODY[5:])
                assert caller.recv(65536).startswith(b"HTTP/1.1 200 OK")
        assert running.process.wait(END_S) == NODE_LOST
        if by_ray:
            until(lambda: all(map(has_ended, processes)), "all end with their raylet")
        assert [(pid, name) for pid, name in processes.items() if not has_ended(pid)] == []
    said = capfd.readouterr().err
    assert len(re.findall(f"headrace: Ray's node is lost: {name} .*draining", said)) == 1
    assert "headrace.log" in said


def accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def test_serves_controller_may_be_killed_and_so_may_a_platform_without_leaving_anybody() -> None:
    with platform("--model", "dga-lstm") as running:
        first = named(running, "ray::ServeContr")
        os.kill(first, signal.SIGKILL)
        until(
            lambda: (
                "ray::ServeContr"
                in {n for p, n in below(running.process.pid).items() if p != first}
            ),
            "another",
        )
        assert {ask(running.port) for _ in range(50)} == {200}
        assert running.process.poll() is None
        ours = [
            pid
            for pid, name in below(running.process.pid).items()
            if name.startswith("ray::ServeRepli")
        ]
        running.process.kill()
        assert running.process.wait(END_S) == -signal.SIGKILL
        until(lambda: all(map(has_ended, ours)), "gateways, admin and models end with it")


@dataclass
class Balanced:
    """Callers behind a balancer that probes /ready twice a second and drops what is not 200."""

    port: int
    sent: int = 0
    lost: list[str] = field(default_factory=list)
    is_in: bool = True

    def look(self) -> None:
        while self.is_in:
            with suppress(OSError):
                self.is_in = ask(self.port, "GET", "/v2/health/ready") == 200
            Event().wait(0.5)

    def call(self) -> None:
        while self.is_in:
            self.sent += 1
            try:
                if (status := ask(self.port)) != 200:
                    self.lost.append(str(status))
            except OSError as error:
                self.lost.append(type(error).__name__)
            Event().wait(0.025)


def test_callers_behind_a_balancer_lose_nothing_when_a_platform_ends(tmp_path: Path) -> None:
    config = tmp_path / "headrace.toml"
    config.write_text(f'models = "{REPOSITORY.resolve()}"\n[gateway]\nshutdown_delay_s = 2.0\n')
    with platform("--config", str(config), "--model", "dga-lstm") as running:
        balanced = Balanced(running.port)
        threads = [Thread(target=balanced.look), *(Thread(target=balanced.call) for _ in range(2))]
        for thread in threads:
            thread.start()
        until(lambda: balanced.sent >= 60, "the callers are at work")
        running.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(END_S)
        assert balanced.lost == []
        assert balanced.sent >= 60
        assert running.process.wait(END_S) == 0


@dataclass
class Terminal:
    """`headrace serve` on a terminal of its own; what it shows there, without colours."""

    pid: int
    descriptor: int
    shown: str = ""

    def wait_for(self, text: str) -> None:
        """Empty: the end."""
        while not text or text not in self.shown:
            try:
                piece = os.read(self.descriptor, 65536)
            except OSError:  # nobody has it open any more
                piece = b""
            self.shown += re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\r", b"", piece).decode(errors="replace")
            if not piece:
                assert not text, self.shown
                return

    def interrupt(self) -> None:
        os.write(self.descriptor, b"\x03")

    def code(self) -> int:
        self.wait_for("")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    ports = ("--port", str(free_port()), "--admin-port", str(free_port()))
    pid, descriptor = pty.fork()
    if pid == 0:
        arguments = command("serve", *ports, "--model", "dga-lstm")
        os.execve(arguments[0], arguments, {**os.environ, "COLUMNS": "200"})
    yield Terminal(pid, descriptor)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.close(descriptor)


@pytest.mark.parametrize("shown", ["starting Ray", "loading dga-lstm"])
def test_ctrl_c_ends_a_start_and_leaves_nobody(terminal: Terminal, shown: str) -> None:
    terminal.wait_for(shown)
    if shown != "starting Ray":
        until(lambda: "raylet" in below(terminal.pid).values(), "Ray's processes are there")
    processes = below(terminal.pid)
    terminal.interrupt()
    assert terminal.code() == 130
    assert [pid for pid in processes if not has_ended(pid)] == []
    assert "headrace: ended before it was ready" in terminal.shown
    assert "Traceback" not in terminal.shown


def test_the_second_ctrl_c_ends_at_once(terminal: Terminal) -> None:
    terminal.wait_for("headrace ready")
    processes = below(terminal.pid)
    terminal.interrupt()
    terminal.wait_for("headrace: draining")
    second_s = time.monotonic() + 1.0  # what comes sooner belongs to the first
    until(lambda: time.monotonic() > second_s, "a second is over")
    terminal.interrupt()
    assert terminal.code() == 130
    assert [pid for pid in processes if not has_ended(pid)] == []


def test_a_terminal_shows_headraces_words_alone(terminal: Terminal) -> None:
    terminal.wait_for("headrace ready")
    os.kill(
        next(
            pid for pid, name in below(terminal.pid).items() if name.startswith("ray::ServeRepli")
        ),
        signal.SIGKILL,
    )
    terminal.interrupt()
    assert terminal.code() == 0
    lines = [line for line in terminal.shown.splitlines() if line.strip()]
    loading = r".*(starting Ray|loading dga-lstm).*"
    ours = r"headrace.*", r"  (data|admin|curl) .*", r"try:", loading, r"\^C.*", r"\{.*\}"
    assert [line for line in lines if not re.fullmatch("|".join(ours), line)] == []
    log = re.search(r"go to (\S+)", terminal.shown)
    assert log
    assert Path(log[1]).stat().st_mode & 0o077 == 0


def test_ray_that_cannot_start_is_tried_twice_and_said_in_one_line(tmp_path: Path) -> None:
    ended = subprocess.run(
        command(
            "serve",
            "--port",
            str(free_port()),
            "--admin-port",
            str(free_port()),
            "--model",
            "dga-lstm",
        ),
        capture_output=True,
        text=True,
        env={**os.environ, "RAY_OVERRIDE_RESOURCES": "not JSON"},
        timeout=180,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stdout + ended.stderr
    said = ended.stderr.strip().splitlines()
    assert [line for line in said if not line.startswith("headrace: ")] == []
    assert said[-1].startswith("headrace: Ray did not start: ")
    assert "trying once more" in ended.stderr
