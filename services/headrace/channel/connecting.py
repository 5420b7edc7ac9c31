"""Connecting to a replica, by its Unix socket or by TCP."""

import asyncio

from headrace.channel.client import CONNECT_TIMEOUT_S, OnMoved, ReplicaClient
from headrace.channel.frame_stream import Address
from headrace.channel.pending import OnBlame
from headrace.errors import NotReady

__all__ = ["connect", "has_ended"]


async def connect(
    address: Address,
    own_node: str,
    token: str,
    on_moved: OnMoved | None = None,
    on_blame: OnBlame | None = None,
) -> ReplicaClient:
    """Open a channel: the Unix socket on the same node, otherwise TCP. Raises NotReady in time."""
    loop = asyncio.get_running_loop()
    client = ReplicaClient(on_moved, on_blame)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            if address.node == own_node:
                await loop.create_unix_connection(lambda: client.frame_stream, address.unix)
            else:
                await loop.create_connection(
                    lambda: client.frame_stream, address.host, address.port
                )
    except OSError as error:  # TimeoutError is one
        raise NotReady("the replica cannot be reached", retry_after_s=1) from error
    try:
        await client.greet(token, address.unix)
    except BaseException:
        client.frame_stream.abort()
        raise
    return client


def has_ended(error: Exception) -> bool:
    """True if `connect` found nobody at the address: a living replica always listens there.

    This is certain on the replica's own node only: between nodes others may refuse.
    """
    return isinstance(error.__cause__, ConnectionRefusedError)
