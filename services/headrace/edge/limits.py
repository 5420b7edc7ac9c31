"""Limits of a connection, a request and a listener. Each is tested at itself and one beyond."""

from dataclasses import dataclass

__all__ = ["EdgeLimits"]


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """Limits of a listener in one process; receipt deadlines do not move, however bytes trickle.

    `max_bodies_bytes` bounds all bodies in the process. While `max_pipelined` requests of one
    connection wait, no more are read. A peer is an address: a proxy in front is one peer.
    """

    max_uri_bytes: int = 8 << 10
    max_head_bytes: int = 32 << 10
    max_headers: int = 100
    max_header_bytes: int = 8 << 10
    max_body_bytes: int = 16 << 20
    max_inflated_bytes: int = 64 << 20
    max_bodies_bytes: int = 512 << 20
    max_chunks: int = 65_536
    head_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    keep_alive_s: float = 75.0
    write_timeout_s: float = 30.0
    max_requests_per_connection: int = 10_000
    max_pipelined: int = 16
    max_connections: int = 1024
    max_connections_per_peer: int = 1024
