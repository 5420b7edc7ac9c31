"""Refuses requests for names that are not this port's own.

Another site could otherwise have its name lead here, and its pages would pass for this port's.
Addresses and localhost are always its own, since nobody can make them lead elsewhere.
"""

import ipaddress
import socket
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache

from headrace.edge.exchange import Exchange
from headrace.edge.framing import authority
from headrace.errors import Misdirected

__all__ = ["ANY_NAME", "Names", "host_port", "is_loopback", "own_names"]

ANY_NAME = "*"
_LOOPBACK_NAME = "localhost"


class Names:
    """Refuses requests for other names; with ANY_NAME among `names` it refuses none."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(map(_plain, names))
        self._decided = lru_cache(maxsize=1024)(self._is_anothers)  # once for each Host that comes

    def check(self, exchange: Exchange, target: bytes) -> None:
        """Raise Misdirected for another name in Host or an absolute target; it may be missing."""
        if self._decided(exchange.headers.get(b"host")):
            raise _misdirected("Host")
        if target[:1] != b"/" and self._is_anothers(authority(target)):
            raise _misdirected("target")

    def _is_anothers(self, named: bytes | None) -> bool:
        if not named or ANY_NAME in self._names:
            return False
        name = _host(named)
        return not (_is_address(name) or _is_localhost(name) or name in self._names)


def own_names(host: str, names: Iterable[str]) -> list[str]:
    """The names of a port that is bound to `host`; beyond loopback also those of this machine."""
    machine = (
        [] if is_loopback(host) else [socket.gethostname(), socket.gethostname().partition(".")[0]]
    )
    return [host, *names, *machine]


def host_port(host: str, port: int) -> str:
    """`host:port` as in a URL: an IPv6 address is in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach `host`; of names only localhost is sure."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == _LOOPBACK_NAME


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


def _host(named: bytes) -> str:
    """The name or address of `host:port`, without the brackets of an IPv6 address."""
    text = named.decode("latin-1")
    host = (
        text.partition("]")[0].removeprefix("[") if text.startswith("[") else text.partition(":")[0]
    )
    return _plain(host)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_localhost(name: str) -> bool:
    return name == _LOOPBACK_NAME or name.endswith("." + _LOOPBACK_NAME)


def _misdirected(where: str) -> Misdirected:
    return Misdirected(
        f"{where}: expected an address or a name of this server, found another name; "
        "if it is this server's, add it to names under [gateway] in headrace.toml"
    )
