"""A server whose stderr accepts nothing: it goes on serving, and ends when it should."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest
from tests.faults.chatty import REQUESTS

ROOT = Path(__file__).parents[2]
END_S = 120


@pytest.fixture
def full() -> Iterator[IO[bytes]]:
    """A file on a full disk."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("wb") as file:
        yield file


def chatty(folder: Path, stderr: int | IO[bytes]) -> str:
    """The output. Fails if the process does not end."""
    command = [sys.executable, "-m", "tests.faults.chatty", str(folder)]
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True)
        )
        stack.callback(process.kill)
        assert process.wait(END_S) == 0
        assert process.stdout is not None
        return process.stdout.read().strip()


def test_a_gateway_whose_stderr_nobody_reads_serves_on(tmp_path: Path) -> None:
    assert chatty(tmp_path, subprocess.PIPE) == f"{{200: {REQUESTS}}} True"


def test_a_gateway_whose_log_is_on_a_full_disk_serves_on(tmp_path: Path, full: IO[bytes]) -> None:
    assert chatty(tmp_path, full) == f"{{200: {REQUESTS}}} True"
