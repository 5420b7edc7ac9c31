"""One replica as an asyncio program: host, channel and metrics, from start to drained. No Ray."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from headrace import backends
from headrace.channel import Address, serve
from headrace.channel.frames import Welcome
from headrace.replica.host import Host, Load
from headrace.telemetry.exposition import expose
from headrace.telemetry.prometheus import PrometheusReplica
from headrace_models.repository import ModelVersion, read_version, verify

__all__ = ["ReplicaOrder", "Serving", "serve_replica"]

DRAIN_S = 20.0


@dataclass(frozen=True, slots=True)
class ReplicaOrder:
    """What to serve and where. `unix` is the socket's path; `host` is this node's address for TCP and for metrics."""

    folder: str
    backend: str
    node: str
    host: str
    unix: str
    token: str


@dataclass(frozen=True, slots=True)
class Serving:
    """A replica that serves: `metrics` is `host:port`. `health` may be asked from any thread."""

    version: ModelVersion
    labels: tuple[str, ...]
    address: Address
    metrics: str
    is_ready: Callable[[], bool]


async def serve_replica(
    order: ReplicaOrder, ready: Callable[[Serving], None], stop: asyncio.Event, load: Load = backends.load
) -> None:
    """Load, prove and serve a model version until `stop`; then drain: go away, answer what was accepted, end.

    Raises BadSpec or StartFailed if the model cannot be served.
    """
    version = read_version(Path(order.folder))
    verify(version)
    spec = version.spec
    registry = CollectorRegistry()
    events = PrometheusReplica(registry, spec.name, spec.version)
    welcome = Welcome(spec.name, spec.version)
    with expose(registry, order.host) as metrics:
        async with (
            Host(version, order.backend, events, load) as host,
            serve(host, welcome, order.token, order.unix, order.host) as (channel, port),
        ):
            address = Address(order.node, order.unix, order.host, port)
            ready(Serving(version, _labels(version), address, metrics, lambda: host.health().is_ready))
            await stop.wait()
            channel.say_going_away()
            async with asyncio.timeout(DRAIN_S):
                await channel.settle()
                await host.drain()


def _labels(version: ModelVersion) -> tuple[str, ...]:
    output = version.spec.classes
    if output is None or output.labels is None:
        return ()
    return tuple(version.path(output.labels).read_text(encoding="utf-8").splitlines())
