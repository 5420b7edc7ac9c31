"""The sockets of a lone node that others can reach, in the network and on the machine."""

import ipaddress
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from loadtests.support.checkout import REPOSITORY
from loadtests.support.proc import below
from tests.platform.listeners import listeners
from tests.platform.running import Platform, platform

from headrace.process.own_folder import own_folder

pytestmark = [pytest.mark.ray, pytest.mark.zoo]

MODEL = "dga-lstm"


@pytest.fixture(scope="module")
def alone() -> Iterator[Platform]:
    if not (REPOSITORY / MODEL).is_dir():
        pytest.skip(f"{REPOSITORY} lacks {MODEL}: run headrace models build")
    with platform("--model", MODEL, "--host", "0.0.0.0", "--insecure") as running:
        yield running


def family(running: Platform) -> set[int]:
    return {running.process.pid, *below(running.process.pid)}


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def test_nothing_but_the_data_port_is_beyond_loopback(alone: Platform) -> None:
    found = list(listeners(family(alone)))
    assert {port for _, port, _ in found} > {alone.port, alone.admin_port}
    assert {(address, port) for address, port, _ in found if not is_loopback(address)} == {
        ("0.0.0.0", alone.port)
    }


def test_each_replica_listens_for_gateways_on_its_socket_alone(alone: Platform) -> None:
    """Of Ray it has two servers, of ours its metrics."""
    health = alone.health()
    served = {replica["id"] for replica in health["replicas"]}
    (pid,) = [process["pid"] for process in health["processes"] if process["id"] in served]
    assert len(list(listeners({pid}))) == 3


def test_every_process_of_ray_has_the_secret_of_this_run_and_nobody_else_can_read_it(
    alone: Platform,
) -> None:
    told = set()
    for pid in below(alone.process.pid):
        entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
        environment = dict(entry.split("=", 1) for entry in entries if "=" in entry)
        is_whole = "=" in entries[0]  # else the process has written its name over what stood there
        if is_whole or "RAY_AUTH_TOKEN_PATH" in environment:
            told.add(environment.get("RAY_AUTH_TOKEN_PATH", ""))
    (path,) = map(Path, told)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    assert path.parent.parent == own_folder()


def test_every_unix_socket_lies_where_nobody_else_can_look(alone: Platform) -> None:
    inodes = {
        str(link.readlink()) for pid in family(alone) for link in Path(f"/proc/{pid}/fd").glob("*")
    }
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    paths = {Path(line[7]) for line in lines if len(line) > 7 and f"socket:[{line[6]}]" in inodes}
    assert {path.name for path in paths} > {"raylet", "plasma_store"}
    assert {path.parts[: len(own_folder().parts)] for path in paths} == {own_folder().parts}
