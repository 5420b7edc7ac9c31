"""A process whose output nobody reads."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.life.deaf import DEAF, WAYS

SOON_S = 60.0
SAYS_AND_GOES_ON = """
import sys
from pathlib import Path
from headrace.commands.terminal import divert, err, out, progress_bar

deafen(sys.argv[1])
divert(Path(sys.argv[2]))
for _ in range(3):
    err.print("to nobody")
    out.print("to nobody")
err.show_cursor()
os.write(2, b"of a library")
os._exit(7)
"""
WARNS = """
import sys
from headrace.commands.terminal import err

deafen(sys.argv[1])
err.print("a warning")
os._exit(7)
"""
GIVES = """
import sys
from headrace.commands.terminal import out

deafen(sys.argv[1])
out.print("what was asked for")
os._exit(7)
"""


def code(source: str, *arguments: str) -> int:
    quiet = subprocess.DEVNULL
    command = [sys.executable, "-c", DEAF + source, *arguments]
    return subprocess.run(
        command, stdout=quiet, stderr=quiet, check=False, timeout=SOON_S
    ).returncode


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.slow("waits for seconds on the real clock")
def test_a_platform_goes_on_whether_its_words_are_heard_or_not(tmp_path: Path, way: str) -> None:
    log = tmp_path / "log"
    assert code(SAYS_AND_GOES_ON, way, str(log)) == 7
    assert log.read_bytes().endswith(b"of a library")


@pytest.mark.parametrize("way", ["gone", "full"])
def test_a_warning_that_nobody_reads_ends_no_command(way: str) -> None:
    assert code(WARNS, way) == 7


@pytest.mark.parametrize("way", ["gone", "full"])
def test_a_command_fails_if_its_output_cannot_be_written(way: str) -> None:
    assert code(GIVES, way) == 1
