"""An ASGI application on a socket of ours: uvicorn with httptools, stopped by an event, drained in bounded time."""

import asyncio
import socket
from typing import Any

import uvicorn

from headrace.errors import StartFailed

__all__ = ["listen", "run_http"]

_BACKLOG = 2048
KEEP_ALIVE_S = 75
DRAIN_S = 25


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that other gateways of this node may share. Raises StartFailed if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise StartFailed(f"cannot listen on {host}:{port}: {error.strerror}") from None
    sock.setblocking(False)
    return sock


async def run_http(
    app: Any,  # noqa: ANN401 - what the protocol calls; ASGI has no type of its own
    sock: socket.socket,
    stop: asyncio.Event,
    protocol: type[asyncio.Protocol] | None = None,
) -> None:
    """Serve until `stop` is set; then answer what is in flight, take nothing new, and return within DRAIN_S.

    `protocol` is another HTTP protocol than uvicorn's own, and then `app` is what that protocol calls.
    """
    config = uvicorn.Config(
        app,
        http=protocol or "httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True
    await serving
