"""The admin port as an asyncio program, from listening to drained. No Ray."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry

from headrace.admin.repository import Desk
from headrace.admin.routes import ROUTES, AdminPolicy
from headrace.edge.application import RoutedApplication
from headrace.edge.limits import EdgeLimits
from headrace.edge.metrics import expose
from headrace.edge.names import Names, is_loopback, own_names
from headrace.edge.readers import Readers
from headrace.edge.server import listen, serve_http
from headrace.keys import KeyRing, follow, read_keys
from headrace.process.background import background
from headrace.telemetry.exposition import render_of
from headrace.telemetry.prometheus import PrometheusEdge

__all__ = ["AdminConfig", "serve_admin"]

LIMITS = EdgeLimits(max_body_bytes=64 << 10, max_connections=128)


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """Where to listen; `address` is this node's, for metrics, which `readers` may read; `keys` is the key file.

    `names` are the port's own beside its host.
    """

    host: str
    port: int
    address: str
    keys: Path | None = None
    names: tuple[str, ...] = ()
    readers: Readers = field(default_factory=Readers)


async def serve_admin(
    order: AdminConfig, desk: Desk, ready: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Listen and serve until `stop`; `ready` is told where the metrics are. Raises StartFailed if it cannot listen."""
    sock = listen(order.host, order.port)
    registry = CollectorRegistry()
    async with AsyncExitStack() as stack:
        keys = KeyRing(read_keys(order.keys)) if order.keys else None
        if order.keys and keys:
            background(stack, follow(keys, order.keys))
        policy = AdminPolicy(PrometheusEdge(registry), keys, is_loopback=is_loopback(order.host))
        ready(
            await stack.enter_async_context(
                expose(render_of(registry), order.address, order.readers)
            )
        )
        names = Names(own_names(order.host, order.names))
        await serve_http(RoutedApplication(ROUTES, desk, policy, names), sock, stop, LIMITS)
