"""The admin port as an asyncio program, from its start to its drained end. No Ray."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry

from headrace.admin.repository import AdminContext
from headrace.admin.routes import ROUTES, AdminPolicy
from headrace.admin.settings import AdminSettings
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminConfig:
    """The admin process: its settings, and the key file of both ports.

    `names` are the port's beside its host. `readers` may read its metrics beyond loopback;
    `address` is this node's.
    """

    settings: AdminSettings
    keys: Path | None = None
    names: tuple[str, ...] = ()
    readers: Readers = field(default_factory=Readers)
    address: str = ""


async def serve_admin(
    config: AdminConfig, context: AdminContext, ready: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Listen and serve until `stop`; `ready` gets the address of the metrics.

    Raises StartFailed if it cannot listen.
    """
    sock = listen(config.settings.host, config.settings.port)
    registry = CollectorRegistry()
    async with AsyncExitStack() as stack:
        keys = KeyRing(read_keys(config.keys)) if config.keys else None
        if config.keys and keys:
            background(stack, follow(keys, config.keys))
        policy = AdminPolicy(
            PrometheusEdge(registry), keys, is_loopback=is_loopback(config.settings.host)
        )
        ready(
            await stack.enter_async_context(
                expose(render_of(registry), config.address, config.readers)
            )
        )
        names = Names(own_names(config.settings.host, config.names))
        await serve_http(RoutedApplication(ROUTES, context, policy, names), sock, stop, LIMITS)
