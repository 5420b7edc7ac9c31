"""deploy/headrace.service: its start, its restarts, and the time that it may take to end."""

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from headrace.commands.life import NODE_LOST
from headrace.edge.limits import DRAIN_S
from headrace.gateway.settings import GatewaySettings
from headrace.process.own_folder import KEPT_RUNS

UNIT = Path(__file__).parents[2] / "deploy" / "headrace.service"
# Beyond what gateways need: Serve's own shutdown, models that end, Ray.
OTHERS_S = 30.0


@pytest.fixture
def unit() -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # keys as they are written
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return parser


@pytest.fixture
def service(unit: ConfigParser) -> dict[str, str]:
    return dict(unit["Service"])


def test_a_lost_node_and_a_crash_bring_it_back_and_an_end_as_asked_for_does_not(
    service: dict[str, str],
) -> None:
    assert service["Restart"] == "on-failure"
    clean = set(service["SuccessExitStatus"].split())
    assert clean == {"129", "130", "143"}
    assert str(NODE_LOST) not in clean


def test_headrace_alone_is_told_to_end_and_has_the_time_that_the_longest_end_takes(
    service: dict[str, str],
) -> None:
    assert (service["KillSignal"], service["KillMode"]) == ("SIGTERM", "mixed")
    longest = next(
        m.le for m in GatewaySettings.model_fields["shutdown_delay_s"].metadata if hasattr(m, "le")
    )
    assert float(service["TimeoutStopSec"]) >= longest + DRAIN_S + OTHERS_S


def test_what_it_runs_is_a_command_of_ours_and_not_as_root(service: dict[str, str]) -> None:
    assert re.fullmatch(r"/\S+/headrace serve( --config /\S+)?", service["ExecStart"])
    assert service["User"] not in ("", "root")
    assert service["NoNewPrivileges"] == "yes"


def test_rays_files_lie_in_a_folder_that_is_the_services_alone_and_stay_until_it_is_stopped(
    service: dict[str, str],
) -> None:
    folder = f"/run/{service['RuntimeDirectory']}"
    assert f"TMPDIR={folder}" in service["Environment"].split()
    assert (service["RuntimeDirectoryMode"], service["RuntimeDirectoryPreserve"]) == (
        "0700",
        "restart",
    )


def test_a_process_that_the_kernel_ends_for_want_of_memory_does_not_end_the_service(
    service: dict[str, str],
) -> None:
    assert service["OOMPolicy"] == "continue"


def test_the_log_of_the_first_failure_outlives_all_tries_that_follow(unit: ConfigParser) -> None:
    assert int(unit["Unit"]["StartLimitBurst"]) <= KEPT_RUNS


def test_systemd_takes_every_line_of_it(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on this machine")
    unit = tmp_path / UNIT.name
    unit.write_text(
        re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(encoding="utf-8"))
    )
    done = subprocess.run(
        [analyze, "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
