"""Are the ports free, and may they face whom they face? Asked before anything is started or imported that is heavy."""

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
    """Have both ports, so that only gateways and admin processes of this user can listen on them, while this lasts.

    Raises StartFailed at once if one is taken; later a gateway would silently share it with its holder. The two of ours
    must not share one either, by whatever names: each would get connections of the other.
    """
    data, admin = (
        (settings.gateway.host, settings.gateway.port),
        (settings.admin.host, settings.admin.port),
    )
    with _hold(data, "--port"):
        try:
            held = _hold(admin, "--admin-port")
        except StartFailed as error:
            taken = error
        else:
            with held:
                yield
            return
    with _hold(admin, "--admin-port"):  # it was free, but for the data port
        raise StartFailed(
            f"expected two ports, found {host_port(*data)} for data and {host_port(*admin)} for admin; "
            "set --port or --admin-port"
        ) from taken


def _hold(place: tuple[str, int], option: str) -> socket.socket:
    """A socket that has a port without listening; the port is free again once it is closed or this process has ended.

    Raises StartFailed if anybody listens there or holds it so. The kernel knows who that may be: in this network
    namespace, whoever's it is, at addresses that overlap.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # connections of a platform that ended may linger
        sock.bind(place)
        sock.listen(1)  # the kernel lets two share a port that neither listens on
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)  # from now on with nobody
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEPORT, 1
        )  # but those of this user that want it, as ours do
        sock.shutdown(socket.SHUT_RD)  # no longer listens, and stays bound
    except (
        OSError
    ) as error:  # a name that nobody knows has a number of its own, which strerror does not know
        sock.close()
        todo = f"; end what has it, maybe a platform that still starts, or set {option}"
        raise StartFailed(
            f"cannot listen on {host_port(*place)}: {error.strerror}{todo if error.errno == errno.EADDRINUSE else ''}"
        ) from None
    return sock


def check_exposure(settings: Settings) -> str | None:
    """Raise StartFailed if a network could reach a port that asks for no key, or a data port without TLS.

    With `insecure` this is a warning instead, which is given back. Keys and certificate must be good in any case.
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
        f"{'; '.join(lacking)}. --insecure starts it all the same: behind a proxy that ends TLS, or in a closed network"
    )


def _check_keys(path: Path) -> None:
    now = utc_now()
    if not any(key.state(now) == "valid" for key in read_keys(path)):
        raise StartFailed(
            f"{path}: expected a valid key, found none; make one with: headrace keys create NAME"
        )


def _lacking(settings: Settings) -> Iterator[str]:
    """For each port that more than this machine can reach: what it lacks; and of metrics, if they are open for that."""
    gateway, admin = settings.gateway, settings.admin
    keys = [] if gateway.keys else ["keys (gateway.keys)"]
    tls = [] if gateway.tls_certificate else ["TLS (gateway.tls_certificate, gateway.tls_key)"]
    for name, host, lacking in (("data", gateway.host, keys + tls), ("admin", admin.host, keys)):
        if lacking and not is_loopback(host):
            yield f"the {name} port on {host} has no {' and no '.join(lacking)}"
    if gateway.insecure and not gateway.keys and cluster_address():
        yield "the metrics of every process ask for no key"
