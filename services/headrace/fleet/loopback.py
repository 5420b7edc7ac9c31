"""Keeps on loopback the one server of Ray's that has no setting for where it listens."""

from ray._common.tls_utils import add_port_to_grpc_server
from ray.serve._private import replica

__all__ = ["keep_calls_local"]


def keep_calls_local() -> None:
    """Have Serve's server for calls between deployments, which nobody makes here, listen on loopback in this process.

    For a deployment to call while it is made: Serve starts that server on all interfaces right after.
    """
    replica.add_port_to_grpc_server = _add_local_port  # type: ignore[attr-defined] # its module exports nothing


def _add_local_port(server: object, _: str) -> int:
    return int(add_port_to_grpc_server(server, "127.0.0.1:0"))  # type: ignore[no-untyped-call] # Ray's own lack of types
