"""TCP ports of this machine for servers that tests start."""

import random
import socket
from contextlib import suppress

__all__ = ["HOST", "free_port"]

HOST = "127.0.0.1"
# Below the kernel's ephemeral ports and those of Ray's servers.
_PORTS = range(15_000, 30_000)
_MOST_TRIES = 100


def free_port() -> int:
    """A free port that neither the kernel nor Ray hands out by itself."""
    for port in random.SystemRandom().sample(_PORTS, _MOST_TRIES):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise OSError(f"none of {_MOST_TRIES} ports is free")
