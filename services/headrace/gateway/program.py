"""One gateway as an asyncio program: router, HTTP and metrics, from listening to drained."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext

import orjson
from prometheus_client import CollectorRegistry

from headrace.edge.application import RoutedApplication
from headrace.edge.budget import Budget
from headrace.edge.cors import Cors, preflights
from headrace.edge.limits import EdgeLimits
from headrace.edge.metrics import expose
from headrace.edge.names import Names, own_names
from headrace.edge.origin_check import OriginCheck
from headrace.edge.readers import Readers
from headrace.edge.server import listen, serve_http
from headrace.fleet.entries import Fleet
from headrace.gateway.access import DataPolicy, watch_loop
from headrace.gateway.admission import Admission
from headrace.gateway.api.context import Context
from headrace.gateway.api.endpoints import ENDPOINTS, ROUTES
from headrace.gateway.api.known_endings import KNOWN_ENDINGS
from headrace.gateway.api.openapi import document
from headrace.gateway.offload import Offload
from headrace.gateway.routing.response_cache import ResponseCache
from headrace.gateway.routing.router import Router
from headrace.gateway.settings import GatewayModelSettings, GatewaySettings
from headrace.keys import KeyRing, follow, follow_certificate, make_context, read_keys
from headrace.process.background import background
from headrace.process.lifeline import hold
from headrace.telemetry import logs
from headrace.telemetry.exposition import render_of
from headrace.telemetry.logs import LogSettings
from headrace.telemetry.prometheus import PrometheusGateway

__all__ = ["GatewayConfig", "GatewayHandle", "serve_gateway"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """A gateway process: its settings, and what its platform and its node tell it.

    `token` opens the channels; `readers` may read metrics beyond loopback. `node` and `address` are
    this node's id and address. `lifeline` is the socket of the process that started the platform,
    if that runs on this machine. `edge`, which only tests give, replaces the limits of `settings`.
    """

    settings: GatewaySettings
    models: Mapping[str, GatewayModelSettings] = field(default_factory=dict)
    token: str
    readers: Readers = field(default_factory=Readers)
    node: str = ""
    address: str = ""
    lifeline: Path | None = None
    edge: EdgeLimits | None = None


@dataclass(frozen=True, slots=True)
class GatewayHandle:
    """A gateway that listens; `metrics` is `host:port`.

    `update` gives it the fleet and must be called on its loop; `wait_linked`, on its loop too,
    waits until the gateway acts on that.
    """

    metrics: str
    update: Callable[[Fleet], None]
    wait_linked: Callable[[], Coroutine[None, None, None]]
    is_ready: Callable[[], bool]


async def _log_here(settings: LogSettings) -> LogSettings:
    """Change how this process logs, where there is no fleet to tell."""
    logs.apply(settings)
    return settings


async def serve_gateway(
    config: GatewayConfig,
    ready: Callable[[GatewayHandle], None],
    stop: asyncio.Event,
    change_logging: Callable[[LogSettings], Awaitable[LogSettings]] = _log_here,
    report_ended: Callable[[str], None] = lambda _: None,
) -> None:
    """Listen and serve until `stop` or the end of the platform; then report not ready, and drain.

    `report_ended` gets the ids of replicas whose processes have ended, and must not block. Raises
    StartFailed if it cannot listen, or cannot use its keys or its certificate.
    """
    settings = config.settings
    edge = config.edge or EdgeLimits.of(settings)
    sock = listen(settings.host, settings.port)
    registry = CollectorRegistry()
    events = PrometheusGateway(registry, KNOWN_ENDINGS)
    router = Router(
        config.node, config.token, events, max(1, settings.max_in_flight // 2), report_ended
    )
    admission = Admission(settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(router.close)
        offload = stack.enter_context(Offload())
        background(stack, watch_loop(events))
        close = asyncio.Event()
        background(stack, _end_on(stop, admission, settings.shutdown_delay_s, close))
        if config.lifeline:
            background(stack, hold(config.lifeline, stop))
        keys = _follow_keys(stack, settings.keys)
        tls = _follow_certificate(stack, settings.tls)
        origin_check = OriginCheck("https" if tls else "http", settings.origins)
        cached = {name: model for name, model in config.models.items() if model.cache_bytes}
        context = Context(
            router=router,
            cache=ResponseCache(router.dispatch, cached, events),
            admission=admission,
            offload=offload,
            labels={name: model.labels for name, model in config.models.items()},
            max_inflated_bytes=edge.max_inflated_bytes,
            inflated=Budget(edge.max_bodies_bytes),
            origin_check=origin_check,
            change_logging=change_logging,
            openapi=orjson.dumps(document(ENDPOINTS)),
        )
        bodies = {n: m.max_body_bytes for n, m in config.models.items() if m.max_body_bytes}
        policy = DataPolicy(admission, events, keys, bodies, origin_check)
        application = _application(settings, context, policy)
        metrics = await stack.enter_async_context(
            expose(render_of(registry), config.address, config.readers)
        )
        # What is loaded by now lives as long as the process: the collector need not look at it
        # again.
        gc.freeze()
        ready(GatewayHandle(metrics, router.update, router.wait_linked, lambda: router.is_ready))
        await serve_http(application, sock, close, edge, tls)


def _follow_keys(stack: AsyncExitStack, file: Path | None) -> KeyRing | None:
    if file is None:
        return None
    keys = KeyRing(read_keys(file))
    background(stack, follow(keys, file))
    return keys


def _follow_certificate(
    stack: AsyncExitStack, files: tuple[Path, Path] | None
) -> SSLContext | None:
    if files is None:
        return None
    tls = make_context(*files)
    background(stack, follow_certificate(tls, *files))
    return tls


def _application(
    settings: GatewaySettings, context: Context, policy: DataPolicy
) -> RoutedApplication[Context]:
    names = Names(own_names(settings.host, settings.names))
    if not settings.origins:
        return RoutedApplication(ROUTES, context, policy, names)
    return RoutedApplication(
        [*ROUTES, *preflights(ROUTES)], context, policy, names, Cors(settings.origins)
    )


async def _end_on(
    stop: asyncio.Event, admission: Admission, delay_s: float, close: asyncio.Event
) -> None:
    await stop.wait()
    await admission.wind_down(delay_s)
    close.set()
