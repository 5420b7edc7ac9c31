"""The platform as a user starts it: `headrace serve` in its own process, on free ports."""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson
from loadtests.support.http_request import http_request
from loadtests.support.ports import free_port

START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 60


@dataclass(frozen=True)
class Platform:
    """A platform that said that it is ready."""

    port: int
    admin_port: int
    process: "subprocess.Popen[str]"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        admin: bool = False,
    ) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        port = self.admin_port if admin else self.port
        answer = http_request(port, method, path, body, headers, timeout_s=60)
        return answer.status, answer.body

    def ask_json(self, path: str, document: object) -> Any:
        status, body = self.ask("POST", path, orjson.dumps(document))
        assert status == 200, body
        return orjson.loads(body)

    def health(self) -> Any:
        return orjson.loads(self.ask("GET", "/healthz", admin=True)[1])


def command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("headrace")), *arguments]


@contextmanager
def platform(*arguments: str) -> Iterator[Platform]:
    """Start and wait until it is ready; stop by SIGTERM if it still runs."""
    port, admin_port = free_port(), free_port()
    process = subprocess.Popen(
        command("serve", "--port", str(port), "--admin-port", str(admin_port), *arguments),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert process.stdout is not None
    try:
        _wait_for_line(process.stdout, "headrace ready")
        yield Platform(port, admin_port, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            process.stdout.close()


def _wait_for_line(stdout: IO[str], line: str) -> None:
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for text in stdout:
            lines.put(text)
            if text.strip() == line:
                return
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    while (found := lines.get(timeout=START_TIMEOUT_S)).strip() != line:
        assert found, "headrace serve ended before it was ready"
