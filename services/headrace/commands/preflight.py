"""Checks of ports, keys and exposure, before anything slow is started or imported."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.config import Settings, cluster_address
from headrace.edge.names import host_port, is_loopback
from headrace.errors import StartFailed
from headrace.keys.file import read_keys
from headrace.keys.key import utc_now
from headrace.keys.tls import make_context

__all__ = ["check_exposure", "hold_ports"]


@contextmanager
def hold_ports(settings: Settings) -> Iterator[None]:
    """Reserve both ports: meanwhile only this user's gateways and admin processes can listen.

    Raises StartFailed at once if one is taken; a gateway would silently share it with its holder.
    The two must differ, whatever their hosts' names: on a shared port each would get connections of
    the other.
    """
    data = (settings.gateway.host, settings.gateway.port)
    admin = (settings.admin.host, settings.admin.port)
    with _hold(data, "--port"):
        try:
            held = _hold(admin, "--admin-port")
        except StartFailed as error:
            taken = error
        else:
            with held:
                yield
            return
    with _hold(admin, "--admin-port"):  # succeeds if only the data port took it
        raise StartFailed(
            f"expected two ports, found {host_port(*data)} for data "
            f"and {host_port(*admin)} for admin; set --port or --admin-port"
        ) from taken


def _hold(address: tuple[str, int], option: str) -> socket.socket:
    """A socket that reserves a port without listening, until it is closed or this process ends.

    Raises StartFailed if any user in this network namespace listens on the port, or reserves it so,
    at an overlapping address.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections of a platform that ended may linger.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1)  # the kernel lets two sockets share a port on which neither listens
        # From now on share it with nobody but sockets of this user that ask for it, as ours do.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.shutdown(socket.SHUT_RD)  # stops listening, and stays bound
    except OSError as error:
        sock.close()
        reason = error.strerror  # also of an unknown name, whose errno os.strerror does not know
        if error.errno == errno.EADDRINUSE:
            reason = (
                f"{reason}; end its user, maybe a platform that is still starting, or set {option}"
            )
        raise StartFailed(f"cannot listen on {host_port(*address)}: {reason}") from None
    return sock


def check_exposure(settings: Settings) -> str | None:
    """Raise StartFailed if a network could reach a port without keys, or a data port without TLS.

    With `insecure` this becomes a warning, which is returned. Keys and certificate must be valid in
    any case.
    """
    gateway = settings.gateway
    if gateway.keys:
        _check_keys(gateway.keys)
    if gateway.tls_certificate and gateway.tls_key:
        make_context(gateway.tls_certificate, gateway.tls_key)
    lacking = list(_lacking(settings))
    if not lacking:
        return None
    if gateway.insecure:
        return f"insecure: {'; '.join(lacking)}"
    raise StartFailed(
        f"{'; '.join(lacking)}. Set them, or use --insecure "
        "behind a proxy that ends TLS or in a closed network"
    )


def _check_keys(path: Path) -> None:
    now = utc_now()
    if not any(key.state(now) == "valid" for key in read_keys(path)):
        raise StartFailed(
            f"{path}: expected a valid key, found none; make one with: headrace keys create NAME"
        )


def _lacking(settings: Settings) -> Iterator[str]:
    """A sentence for each port that other machines can reach and that lacks protection."""
    gateway, admin = settings.gateway, settings.admin
    keys = [] if gateway.keys else ["keys (gateway.keys)"]
    tls = [] if gateway.tls_certificate else ["TLS (gateway.tls_certificate, gateway.tls_key)"]
    for name, host, lacking in (("data", gateway.host, keys + tls), ("admin", admin.host, keys)):
        if lacking and not is_loopback(host):
            yield f"the {name} port on {host} has no {' and no '.join(lacking)}"
    if gateway.insecure and not gateway.keys and cluster_address():
        yield "the metrics of every process are open without a key"
