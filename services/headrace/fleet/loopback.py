"""Keeps the one server of Ray on loopback that has no setting for its address."""

from ray._common.tls_utils import add_port_to_grpc_server
from ray.serve._private import replica

__all__ = ["keep_calls_local"]


def keep_calls_local() -> None:
    """Have Serve's server for calls between deployments, which are not used here, listen on
    loopback in this process.

    A deployment calls this in its constructor: right after it, Serve starts that server on all
    interfaces.
    """
    replica.add_port_to_grpc_server = _add_local_port  # type: ignore[attr-defined] # its module exports nothing


def _add_local_port(server: object, _: str) -> int:
    return int(add_port_to_grpc_server(server, "127.0.0.1:0"))  # type: ignore[no-untyped-call] # Ray's own lack of types
