"""A listening socket and the connections on it, from listening to drained."""

import asyncio
import socket
import ssl
from functools import partial

from headrace.edge.budget import Budget
from headrace.edge.connection import Connection
from headrace.edge.exchange import Application
from headrace.edge.limits import DRAIN_S, EdgeLimits
from headrace.edge.names import host_port
from headrace.edge.peers import Peers
from headrace.errors import StartFailed

__all__ = ["listen", "serve_http"]

_BACKLOG = 2048
# Handshakes count as connections only once they are done, so they are given little time.
_HANDSHAKE_S = 5.0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that other gateways of this node may share. Raises StartFailed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise StartFailed(f"cannot listen on {host_port(host, port)}: {error.strerror}") from None
    sock.setblocking(False)
    return sock


async def serve_http(
    app: Application,
    sock: socket.socket,
    stop: asyncio.Event,
    limits: EdgeLimits,
    tls: ssl.SSLContext | None = None,
    drain_s: float = DRAIN_S,
) -> None:
    """Serve until `stop` is set, then finish the requests in flight, in at most `drain_s`."""
    peers: Peers[Connection] = Peers(limits.max_connections, limits.max_connections_per_peer)
    server = await asyncio.get_running_loop().create_server(
        partial(Connection, app, limits, Budget(limits.max_bodies_bytes), peers),
        sock=sock,
        ssl=tls,
        ssl_handshake_timeout=_HANDSHAKE_S if tls else None,
    )
    try:
        await stop.wait()
    finally:
        server.close()
    peers.is_draining = True
    for connection in peers:
        connection.drain()
    try:
        async with asyncio.timeout(drain_s):
            await peers.empty()
    except TimeoutError:
        for connection in peers:
            connection.abort()
