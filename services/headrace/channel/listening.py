"""Listening for gateways, on a Unix socket and on TCP."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from headrace.channel.frames import Welcome
from headrace.channel.server import ChannelServer
from headrace.channel.service import Service
from headrace.channel.strangers import Strangers

__all__ = ["serve"]


@asynccontextmanager
async def serve(
    service: Service, welcome: Welcome, token: str, unix: str, host: str
) -> AsyncIterator[tuple[ChannelServer, int]]:
    """Listen on a Unix socket (mode 600), and on a free TCP port of `host`, if that is not empty.

    Gives the server and the port, 0 without a host. `unix` is also the replica's name in greetings.
    """
    loop = asyncio.get_running_loop()
    channel = ChannelServer(service, Strangers(welcome, token, unix))
    with suppress(FileNotFoundError):
        os.unlink(unix)  # noqa: PTH108 - a socket's path, not a file of ours
    on_node = await loop.create_unix_server(channel.accept, unix)
    os.chmod(unix, 0o600)  # noqa: PTH101
    on_network = await loop.create_server(channel.accept, host, 0) if host else None
    try:
        yield channel, on_network.sockets[0].getsockname()[1] if on_network else 0
    finally:
        on_node.close()
        if on_network:
            on_network.close()
        await channel.close()
        with suppress(FileNotFoundError):
            os.unlink(unix)  # noqa: PTH108
