"""The check of the platform's ports before anything starts."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from loadtests.support.ports import free_port

from headrace.admin.settings import AdminSettings
from headrace.commands.preflight import hold_ports
from headrace.config import Settings
from headrace.edge.server import listen
from headrace.errors import StartFailed
from headrace.gateway.settings import GatewaySettings


def settings(data: tuple[str, int], admin: tuple[str, int]) -> Settings:
    return Settings(
        gateway=GatewaySettings(host=data[0], port=data[1]),
        admin=AdminSettings(host=admin[0], port=admin[1]),
    )


def take(settings: Settings) -> None:
    with hold_ports(settings):
        pass


@pytest.fixture
def port() -> int:
    return free_port()


HOSTS = ["127.0.0.1", "0.0.0.0", "localhost", "::"]


@pytest.mark.parametrize("data", HOSTS)
@pytest.mark.parametrize("admin", HOSTS)
def test_one_port_for_both_is_refused_under_any_names(port: int, data: str, admin: str) -> None:
    with pytest.raises(
        StartFailed, match=r"^expected two ports, found .* for data and .* for admin; set --port or"
    ) as said:
        take(settings((data, port), (admin, port)))
    assert "\n" not in said.value.message


def test_one_port_at_addresses_that_share_nothing_is_two_ports(port: int) -> None:
    take(settings(("127.0.0.1", port), ("127.0.0.2", port)))
    take(settings(("127.0.0.1", port), ("::1", port)))


def test_ports_are_free_again_once_they_are_not_held(port: int) -> None:
    for _ in range(3):
        take(settings(("127.0.0.1", port), ("127.0.0.1", free_port())))
    with pytest.raises(StartFailed, match="expected two ports"):
        take(settings(("127.0.0.1", port), ("127.0.0.1", port)))
    take(settings(("127.0.0.1", port), ("127.0.0.1", free_port())))


@pytest.mark.parametrize("first", HOSTS)
@pytest.mark.parametrize("second", HOSTS)
def test_of_two_platforms_that_start_on_one_port_before_either_listens_the_second_is_told(
    port: int, first: str, second: str
) -> None:
    """Either port, while the first platform's gateways start, are all gone, and start again."""
    others = [
        settings((second, port), ("127.0.0.1", free_port())),
        settings(("127.0.0.1", free_port()), (second, port)),
    ]

    def refused() -> None:
        for other, option in zip(others, ("--port", "--admin-port"), strict=True):
            with pytest.raises(StartFailed) as said:
                take(other)
            assert re.search(
                f"^cannot listen on .*:{port}: Address already in use; end .*, or set {option}$",
                str(said.value),
            )

    for held in (
        settings((first, port), ("127.0.0.1", free_port())),
        settings(("127.0.0.1", free_port()), (first, port)),
    ):
        with hold_ports(held):
            for _ in range(2):
                refused()
                with listen(first, port), listen(first, port):
                    refused()


def test_platforms_on_one_port_of_addresses_that_share_nothing_start_beside_each_other(
    port: int,
) -> None:
    with hold_ports(settings(("127.0.0.1", port), ("127.0.0.1", free_port()))):
        take(settings(("127.0.0.2", port), ("127.0.0.1", free_port())))


def test_connections_reach_listeners_and_never_the_process_that_only_holds_the_port(
    port: int,
) -> None:
    with hold_ports(settings(("127.0.0.1", port), ("127.0.0.1", free_port()))):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with listen("127.0.0.1", port) as gateway:
            for _ in range(50):
                with socket.create_connection(("127.0.0.1", port)):
                    gateway.accept()[0].close()


def test_a_platform_that_is_killed_holds_no_port(port: int) -> None:
    starting = (
        "import subprocess, sys\n"
        "from headrace.commands.preflight import hold_ports\n"
        "from tests.cli.test_ports import settings\n"
        "data, admin = (('127.0.0.1', int(port)) for port in sys.argv[1:])\n"
        "with hold_ports(settings(data, admin)):\n"
        "    subprocess.Popen(['cat'])\n"
        "    print('holds', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", starting, str(port), str(free_port())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as platform:
        assert platform.stdout
        assert platform.stdout.readline() == b"holds\n"
        with pytest.raises(StartFailed, match="Address already in use"):
            take(settings(("127.0.0.1", port), ("127.0.0.1", free_port())))
        platform.kill()
        platform.wait()
        take(settings(("127.0.0.1", port), ("127.0.0.1", free_port())))


@pytest.fixture
def taken(port: int) -> Iterator[int]:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", port))
        holder.listen()
        yield port


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_a_port_in_use_is_named(taken: int, host: str) -> None:
    shown = "[::]" if host == "::" else host
    for data, admin in (
        ((host, taken), ("127.0.0.1", free_port())),
        (("127.0.0.1", free_port()), (host, taken)),
    ):
        with pytest.raises(
            StartFailed,
            match=re.escape(f"cannot listen on {shown}:{taken}: Address already in use"),
        ):
            take(settings(data, admin))


def test_an_admin_port_in_use_is_not_blamed_on_the_data_port(taken: int) -> None:
    with pytest.raises(
        StartFailed, match=f"cannot listen on 127.0.0.1:{taken}: Address already in use"
    ):
        take(settings(("127.0.0.3", taken), ("127.0.0.1", taken)))


def test_an_unknown_host_name_is_reported_in_the_resolvers_words(port: int) -> None:
    with pytest.raises(StartFailed) as said:
        take(settings(("nosuch.invalid", port), ("127.0.0.1", free_port())))
    with pytest.raises(socket.gaierror) as resolver:
        socket.getaddrinfo("nosuch.invalid", port, socket.AF_INET)
    assert (
        said.value.message == f"cannot listen on nosuch.invalid:{port}: {resolver.value.strerror}"
    )
