"""One gateway as an asyncio program: router, HTTP and metrics, from listening to drained. No Ray."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry

from headrace.edge.application import RoutedApplication
from headrace.edge.budget import Budget
from headrace.edge.changes import Changes
from headrace.edge.cors import Cors, preflights
from headrace.edge.limits import EdgeLimits
from headrace.edge.metrics import expose
from headrace.edge.names import Names, own_names
from headrace.edge.readers import Readers
from headrace.edge.server import listen, serve_http
from headrace.fleet.entries import Fleet
from headrace.gateway.access import DataPolicy, watch_loop
from headrace.gateway.admission import Admission, GatewayLimits
from headrace.gateway.api.context import Context
from headrace.gateway.api.endpoints import ROUTES
from headrace.gateway.api.ways import WAYS
from headrace.gateway.offload import Offload
from headrace.gateway.routing.response_cache import CacheLimits, ResponseCache
from headrace.gateway.routing.router import Router
from headrace.keys import KeyRing, follow, follow_certificate, make_context, read_keys
from headrace.process.background import background
from headrace.process.lifeline import hold
from headrace.telemetry import logs
from headrace.telemetry.exposition import render_of
from headrace.telemetry.logs import LogSettings
from headrace.telemetry.prometheus import PrometheusGateway

__all__ = ["GatewayConfig", "GatewayHandle", "serve_gateway"]


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Where to listen, and for whom. `node` and `address` are this node's id and address; `token` opens the channels.

    `keys` is the key file; `tls` the certificate's and its key's. `labels` are names for versions (model -> label ->
    version), `bodies` the most bytes of a body for models that differ from `edge`, `caches` those of models whose
    answers are kept. `names` are the port's own beside its host; pages of `origins` may ask and read answers.
    `readers` of its metrics are asked who they are where `address` is no loopback. For `shutdown_delay_s` the gateway
    goes on answering when it has said that it is not ready. `lifeline` is the socket of the process that started the
    platform, where that is on this machine.
    """

    host: str
    port: int
    node: str
    address: str
    token: str
    limits: GatewayLimits = field(default_factory=GatewayLimits)
    edge: EdgeLimits = field(default_factory=EdgeLimits)
    keys: Path | None = None
    tls: tuple[Path, Path] | None = None
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    bodies: Mapping[str, int] = field(default_factory=dict)
    caches: Mapping[str, CacheLimits] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    readers: Readers = field(default_factory=Readers)
    shutdown_delay_s: float = 0.0
    lifeline: Path | None = None


@dataclass(frozen=True, slots=True)
class GatewayHandle:
    """A gateway that listens; `metrics` is `host:port`.

    `update` tells it the fleet and must be called on its loop; `settle`, on its loop too, waits until it acts on that.
    """

    metrics: str
    update: Callable[[Fleet], None]
    settle: Callable[[], Coroutine[None, None, None]]
    is_ready: Callable[[], bool]


async def _log_here(settings: LogSettings) -> LogSettings:
    """Change how this process logs, where there is no fleet to tell."""
    logs.apply(settings)
    return settings


async def serve_gateway(
    order: GatewayConfig,
    ready: Callable[[GatewayHandle], None],
    stop: asyncio.Event,
    change_logging: Callable[[LogSettings], Awaitable[LogSettings]] = _log_here,
    tell_ended: Callable[[str], None] = lambda _: None,
) -> None:
    """Listen and serve until `stop` or the platform's end; then say "not ready", answer what is in flight and end.

    `tell_ended` is told the ids of replicas whose processes have ended, and must not block.

    Raises StartFailed if it cannot listen, or cannot use its keys or its certificate.
    """
    sock = listen(order.host, order.port)
    registry = CollectorRegistry()
    events = PrometheusGateway(registry, WAYS)
    router = Router(
        order.node, order.token, events, max(1, order.limits.max_in_flight // 2), tell_ended
    )
    admission = Admission(order.limits)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(router.close)
        offload = stack.enter_context(Offload())
        background(stack, watch_loop(events))
        close = asyncio.Event()
        background(stack, _end_on(stop, admission, order.shutdown_delay_s, close))
        if order.lifeline:
            background(stack, hold(order.lifeline, stop))
        keys = KeyRing(read_keys(order.keys)) if order.keys else None
        if order.keys and keys:
            background(stack, follow(keys, order.keys))
        tls = make_context(*order.tls) if order.tls else None
        if order.tls and tls:
            background(stack, follow_certificate(tls, *order.tls))
        metrics = await stack.enter_async_context(
            expose(render_of(registry), order.address, order.readers)
        )
        # What is loaded by now lives as long as the process: the collector need not look at it again.
        gc.freeze()
        ready(GatewayHandle(metrics, router.update, router.wait_linked, lambda: router.is_ready))
        inflated = Budget(order.edge.max_bodies_bytes)
        cache = ResponseCache(router.dispatch, order.caches, events)
        most_inflated = order.edge.max_inflated_bytes
        changes = Changes("https" if tls else "http", order.origins)
        context = Context(
            router,
            cache,
            admission,
            offload,
            order.labels,
            most_inflated,
            inflated,
            changes,
            change_logging,
        )
        policy = DataPolicy(admission, events, keys, order.bodies, changes)
        await serve_http(_application(order, context, policy), sock, close, order.edge, tls)


def _application(
    order: GatewayConfig, context: Context, policy: DataPolicy
) -> RoutedApplication[Context]:
    names = Names(own_names(order.host, order.names))
    if not order.origins:
        return RoutedApplication(ROUTES, context, policy, names)
    return RoutedApplication(
        [*ROUTES, *preflights(ROUTES)], context, policy, names, Cors(order.origins)
    )


async def _end_on(
    stop: asyncio.Event, admission: Admission, delay_s: float, close: asyncio.Event
) -> None:
    await stop.wait()
    await admission.wind_down(delay_s)
    close.set()
