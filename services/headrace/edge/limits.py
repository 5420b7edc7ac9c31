"""Limits of a connection, a request and a listener. Each is tested at the limit and one beyond."""

from dataclasses import dataclass

from pydantic import Field

from headrace_models.strict_toml import Table

__all__ = ["DRAIN_S", "ENDED_S", "EdgeLimits", "ListenerSettings"]

# Time for what is in flight when a server ends.
DRAIN_S = 25.0
# After this a server that was told to stop has ended.
ENDED_S = DRAIN_S + 3.0


class ListenerSettings(Table):
    """The limits of the data port that `headrace.toml` may change; the admin port's are fixed."""

    max_body_bytes: int = Field(
        default=16 << 20,
        ge=1024,
        le=64 << 20,
        description="Largest body of a request, as sent.",
    )
    max_connections: int = Field(
        default=1024,
        ge=1,
        description="Most open connections of one process; beyond that the longest idle one "
        "is closed.",
    )


_SETTINGS = ListenerSettings()


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """All limits of a listener in one process.

    The receive timeouts are absolute, however slowly bytes trickle in.
    """

    max_uri_bytes: int = 8 << 10
    max_head_bytes: int = 32 << 10
    max_headers: int = 100
    max_header_bytes: int = 8 << 10
    max_body_bytes: int = _SETTINGS.max_body_bytes
    # A compressed body once inflated.
    max_inflated_bytes: int = 64 << 20
    # All bodies in the process together.
    max_bodies_bytes: int = 512 << 20
    max_chunks: int = 65_536
    head_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    keep_alive_s: float = 75.0
    write_timeout_s: float = 30.0
    max_requests_per_connection: int = 10_000
    # Requests of one connection that wait before it is read no further.
    max_pipelined: int = 16
    max_connections: int = _SETTINGS.max_connections
    # A peer is an address: a proxy in front is one peer.
    max_connections_per_peer: int = 1024

    @classmethod
    def of(cls, settings: ListenerSettings) -> "EdgeLimits":
        """The limits with these settings."""
        return cls(**{name: getattr(settings, name) for name in ListenerSettings.model_fields})
