"""HTTP servers in processes of their own, each with the same trivial application."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from loadtests.peers.environment import PeerUnavailable, prepare
from loadtests.support.checkout import ROOT
from loadtests.support.http_request import status_of
from loadtests.support.ports import HOST, free_port

__all__ = ["OURS", "SERVERS", "Server", "running"]

OURS = "ours"
_ENVIRONMENTS = ROOT / ".cache" / "bench"
_IMPATIENCE_S = 0.2
_START_TIMEOUT_S, _STOP_TIMEOUT_S, _POLL_S = 30.0, 10.0, 0.05
_ASGI = "loadtests.peers.hello_asgi:app"
_UVICORN = ("uvicorn==0.54.0", "httptools==0.9.0", "h11==0.16.0", "uvloop==0.23.0")


@dataclass(frozen=True)
class Server:
    """`options` follow the Python of an environment with `requirements`, which is this one if there
    are none.

    `port` stands for the port in them; `impatient` is added where silence must end soon, as far as
    the server can.
    """

    name: str
    requirements: Sequence[str]
    options: Sequence[str]
    impatient: Sequence[str] = ()


def _uvicorn(parser: str) -> Server:
    options = (
        f"-m uvicorn {_ASGI} --host {HOST} --port PORT --loop uvloop --http {parser} "
        "--no-access-log"
    )
    return Server(
        f"uvicorn ({parser})",
        _UVICORN,
        (*options.split(), "--log-level", "critical"),
        _keep_alive(1),
    )


def _keep_alive(seconds: int) -> tuple[str, ...]:
    return "--timeout-keep-alive", str(seconds)


SERVERS = (
    Server(OURS, (), ("-m", "loadtests.peers.hello_edge", "PORT"), (str(_IMPATIENCE_S),)),
    _uvicorn("httptools"),
    _uvicorn("h11"),
    Server(
        "granian",
        ("granian==2.8.7", "uvloop==0.23.0"),
        (
            f"-m granian --interface asgi --http 1 --host {HOST} --port PORT "
            f"--loop uvloop --no-log {_ASGI}"
        ).split(),
        ("--http1-header-read-timeout", "1000"),
    ),
    Server(
        "hypercorn",
        ("hypercorn==0.18.0", "uvloop==0.23.0"),
        (
            f"-m hypercorn --bind {HOST}:PORT --worker-class uvloop --log-level critical {_ASGI}"
        ).split(),
        ("--keep-alive", "1"),
    ),
)


@contextmanager
def running(server: Server, *, is_impatient: bool = False) -> Iterator[int]:
    """The server at a port. Raises PeerUnavailable if it cannot be installed or does not answer."""
    python = sys.executable
    if server.requirements:
        folder = _ENVIRONMENTS / f"http-{server.requirements[0].partition('==')[0]}"
        python = str(prepare(folder, server.requirements))
    port = free_port()
    options = [option.replace("PORT", str(port)) for option in server.options]
    command = [python, *options, *(server.impatient if is_impatient else ())]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_until_it_answers(server, port, process)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT_S)
        process.kill()
        process.wait()


def _wait_until_it_answers(server: Server, port: int, process: "subprocess.Popen[bytes]") -> None:
    until_s = time.monotonic() + _START_TIMEOUT_S
    while status_of(port, "/", timeout_s=_START_TIMEOUT_S) != 200:
        if process.poll() is not None or time.monotonic() > until_s:
            raise PeerUnavailable(f"{server.name} did not start")
        time.sleep(_POLL_S)
