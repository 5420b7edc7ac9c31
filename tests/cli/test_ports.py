"""Whether the platform's ports can be had, asked before anything starts."""

import re
import socket
from collections.abc import Iterator

import pytest
from tests.platform.running import free_port

from headrace.config import AdminSettings, GatewaySettings, Settings
from headrace.errors import StartFailed
from headrace.ports import check_ports


def settings(data: tuple[str, int], admin: tuple[str, int]) -> Settings:
    return Settings(
        gateway=GatewaySettings(host=data[0], port=data[1]), admin=AdminSettings(host=admin[0], port=admin[1])
    )


@pytest.fixture
def port() -> int:
    return free_port()


HOSTS = ["127.0.0.1", "0.0.0.0", "localhost", "::"]


@pytest.mark.parametrize("data", HOSTS)
@pytest.mark.parametrize("admin", HOSTS)
def test_one_port_for_both_is_refused_under_whatever_names(port: int, data: str, admin: str) -> None:
    with pytest.raises(
        StartFailed, match=r"^expected two ports, found .* for data and .* for admin; set --port or"
    ) as said:
        check_ports(settings((data, port), (admin, port)))
    assert "\n" not in said.value.message


def test_one_port_at_addresses_that_share_nothing_is_two_ports(port: int) -> None:
    check_ports(settings(("127.0.0.1", port), ("127.0.0.2", port)))
    check_ports(settings(("127.0.0.1", port), ("::1", port)))


def test_asking_leaves_nothing_behind(port: int) -> None:
    for _ in range(3):
        check_ports(settings(("127.0.0.1", port), ("127.0.0.1", free_port())))


@pytest.fixture
def taken(port: int) -> Iterator[int]:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", port))
        holder.listen()
        yield port


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_a_port_that_somebody_has_is_named(taken: int, host: str) -> None:
    shown = "[::]" if host == "::" else host
    for data, admin in (((host, taken), ("127.0.0.1", free_port())), (("127.0.0.1", free_port()), (host, taken))):
        with pytest.raises(StartFailed, match=re.escape(f"cannot listen on {shown}:{taken}: Address already in use")):
            check_ports(settings(data, admin))


def test_a_port_that_somebody_has_is_not_laid_to_the_data_port(taken: int) -> None:
    with pytest.raises(StartFailed, match=f"cannot listen on 127.0.0.1:{taken}: Address already in use"):
        check_ports(settings(("127.0.0.3", taken), ("127.0.0.1", taken)))


def test_a_name_that_nobody_knows_is_said_as_the_resolver_says_it(port: int) -> None:
    with pytest.raises(StartFailed) as said:
        check_ports(settings(("nosuch.invalid", port), ("127.0.0.1", free_port())))
    with pytest.raises(socket.gaierror) as resolver:
        socket.getaddrinfo("nosuch.invalid", port, socket.AF_INET)
    assert said.value.message == f"cannot listen on nosuch.invalid:{port}: {resolver.value.strerror}"
