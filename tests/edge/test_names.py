"""The names that are a port's own."""

import socket

import pytest
from pydantic import ValidationError

from headrace.edge.exchange import Exchange
from headrace.edge.names import Names, host_port, own_names
from headrace.edge.server import listen
from headrace.errors import Misdirected, StartFailed
from headrace.gateway.settings import GatewaySettings


def is_served(names: Names, host: str | None, target: bytes = b"/") -> bool:
    headers = {} if host is None else {b"host": host.encode()}
    try:
        names.check(Exchange("GET", headers, "", 0), target)
    except Misdirected:
        return False
    return True


OWN = [
    "127.0.0.1",
    "10.1.2.3:8000",
    "[::1]:8000",
    "[fe80::1]",
    "localhost",
    "LocalHost.",
    "a.localhost:1",
    "models.lan",
]
OTHERS = [
    "evil.example",
    "localhost.evil.example",
    "xlocalhost",
    "1.2.3.4.evil.example",
    "models.lan.evil",
    "models",
    "*",
]


@pytest.mark.parametrize("host", OWN)
def test_addresses_localhost_and_what_is_configured_are_own(host: str) -> None:
    names = Names(["Models.LAN."])
    assert is_served(names, host)
    assert is_served(names, "localhost", b"http://%b/x" % host.encode())


@pytest.mark.parametrize("host", OTHERS)
def test_nothing_else_is(host: str) -> None:
    names = Names(["models.lan"])
    for _ in range(2):
        assert not is_served(names, host)
    assert not is_served(names, "localhost", b"http://%b/x" % host.encode())
    assert is_served(Names(["*"]), host)


def test_a_caller_who_names_none_is_served() -> None:
    assert is_served(Names([]), None)


def test_the_machines_own_name_is_the_ports_where_others_can_reach_it() -> None:
    machine = socket.gethostname()
    assert is_served(Names(own_names("0.0.0.0", [])), machine)
    assert is_served(Names(own_names("models.lan", [])), "models.lan")
    assert not is_served(Names(own_names("127.0.0.1", [])), machine + ".lan")
    assert is_served(Names(own_names("127.0.0.1", ["models.lan"])), "models.lan")


@pytest.mark.parametrize(
    "name", ["", "http://models.lan", "models.lan:8000", "models.lan/", "*.models.lan", "a b", "é"]
)
def test_a_setting_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="expected a name without scheme and port"):
        GatewaySettings.model_validate({"names": [name]})


@pytest.mark.parametrize(
    ("origin", "as_browsers_send_it"),
    [
        ("https://app.example", "https://app.example"),
        ("HTTPS://App.Example:443", "https://app.example"),
        ("http://app.example:80", "http://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("*", "*"),
    ],
)
def test_an_origin_is_kept_as_browsers_send_it(origin: str, as_browsers_send_it: str) -> None:
    assert GatewaySettings.model_validate({"origins": [origin]}).origins == (as_browsers_send_it,)


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "app.example",
        "https://app.example/",
        "https://a/b",
        "https://*.a",
        "null",
        "https://a@b",
    ],
)
def test_a_setting_that_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="expected scheme://host"):
        GatewaySettings.model_validate({"origins": [origin]})


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("127.0.0.1", "127.0.0.1:80"),
        ("models.example", "models.example:80"),
        ("fe80::1", "[fe80::1]:80"),
    ],
)
def test_a_host_and_its_port_stand_as_in_a_url(host: str, written: str) -> None:
    assert host_port(host, 80) == written


def test_an_address_that_cannot_be_had_is_named_as_in_a_url() -> None:
    with pytest.raises(StartFailed, match=r"^cannot listen on \[2001:db8::1\]:8000: "):
        listen("2001:db8::1", 8000)  # of documentation, nobody's
