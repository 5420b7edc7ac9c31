"""Are the ports free? Asked before anything is started, and without importing anything heavy."""

import os
import socket

from headrace.config import Settings
from headrace.errors import StartFailed

__all__ = ["check_ports"]


def check_ports(settings: Settings) -> None:
    """Raise StartFailed at once if a port is taken; later a gateway would silently share it with its holder."""
    for host, port in ((settings.gateway.host, settings.gateway.port), (settings.admin.host, settings.admin.port)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise StartFailed(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}") from None
