"""One gateway as an asyncio program: router, HTTP and metrics, from listening to drained. No Ray."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from headrace.fleet.entries import Fleet
from headrace.gateway.admission import Admission, DoorLimits
from headrace.gateway.http_protocol import OneWriteProtocol
from headrace.gateway.routes import Doors
from headrace.gateway.routing import Router
from headrace.gateway.server import Gateway, watch_loop
from headrace.http_server import listen, run_http
from headrace.telemetry.exposition import expose
from headrace.telemetry.prometheus import PrometheusGateway

__all__ = ["GatewayOrder", "Serving", "serve_gateway"]


@dataclass(frozen=True, slots=True)
class GatewayOrder:
    """Where to listen. `node` and `address` are this node's id and address; `token` opens the channels."""

    host: str
    port: int
    node: str
    address: str
    token: str
    limits: DoorLimits


@dataclass(frozen=True, slots=True)
class Serving:
    """A gateway that listens; `metrics` is `host:port`.

    `update` tells it the fleet and must be called on its loop; `settle`, on its loop too, waits until it acts on that.
    """

    metrics: str
    update: Callable[[Fleet], None]
    settle: Callable[[], Coroutine[None, None, None]]
    is_ready: Callable[[], bool]


async def serve_gateway(order: GatewayOrder, ready: Callable[[Serving], None], stop: asyncio.Event) -> None:
    """Listen and serve until `stop`; then answer what is in flight and end. Raises StartFailed if it cannot listen."""
    sock = listen(order.host, order.port)
    registry = CollectorRegistry()
    events = PrometheusGateway(registry)
    router = Router(order.node, order.token, events)
    admission = Admission(order.limits)
    watcher = asyncio.create_task(watch_loop(events))
    drainer = asyncio.create_task(_drain_on(stop, admission))
    try:
        with expose(registry, order.address) as metrics:
            # What is loaded by now lives as long as the process: the collector need not look at it again.
            gc.freeze()
            ready(Serving(metrics, router.update, router.settle, lambda: router.is_ready))
            await run_http(Gateway(Doors(router, admission), events), sock, stop, OneWriteProtocol)
    finally:
        watcher.cancel()
        drainer.cancel()
        await asyncio.gather(watcher, drainer, return_exceptions=True)
        await router.close()


async def _drain_on(stop: asyncio.Event, admission: Admission) -> None:
    """Say "not ready" from the moment that the end is asked for."""
    await stop.wait()
    admission.is_draining = True
