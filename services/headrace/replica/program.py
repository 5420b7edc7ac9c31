"""One replica as an asyncio program: host, channel and metrics, from start to drained. No Ray."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from headrace import backends
from headrace.channel import Address, serve
from headrace.channel.frames import Welcome
from headrace.channel.server import ChannelServer
from headrace.edge.metrics import expose
from headrace.edge.readers import Readers
from headrace.replica.host import Host, Load
from headrace.replica.successors import (
    FindSuccessors,
    Source,
    hand_over_to_successors,
    no_successors,
)
from headrace.telemetry.exposition import render_of
from headrace.telemetry.prometheus import PrometheusReplica
from headrace_models.repository import ModelVersion, read_version, verify
from headrace_models.spec import BackendName

__all__ = ["ReplicaConfig", "ReplicaHandle", "serve_replica"]

DRAIN_S = 20.0


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """What to serve and where. `unix` is the socket's path; `host` is this node's address for TCP and for metrics.

    On a lone node, `is_alone`, all gateways come by the socket, and nothing listens by TCP.
    `readers` of its metrics are asked who they are where `host` is no loopback.
    """

    folder: str
    backend: BackendName
    node: str
    host: str
    unix: str
    token: str
    is_alone: bool = False
    readers: Readers = field(default_factory=Readers)


@dataclass(frozen=True, slots=True)
class ReplicaHandle:
    """A replica that serves: `metrics` is `host:port`. `is_ready` may be asked from any thread.

    The version's spec says how it is served, which its proof may have changed.

    `go_away`, on its loop, lets nothing new begin and hands the open sequences over; what comes is still answered.
    """

    version: ModelVersion
    labels: tuple[str, ...]
    address: Address
    metrics: str
    is_ready: Callable[[], bool]
    go_away: Callable[[], Coroutine[None, None, None]]


async def serve_replica(
    order: ReplicaConfig,
    ready: Callable[[ReplicaHandle], None],
    stop: asyncio.Event,
    load: Load = backends.load,
    find_successors: FindSuccessors = no_successors,
) -> None:
    """Load, prove and serve a model version until `stop`; then drain: go away, answer what was accepted, end.

    `find_successors` gives those that may take its sequences over.

    Raises BadSpec or StartFailed if the model cannot be served.
    """
    version = read_version(Path(order.folder))
    verify(version)
    spec = version.spec
    registry = CollectorRegistry()
    events = PrometheusReplica(
        registry, spec.name, spec.version, has_raw_input=spec.raw is not None
    )
    welcome = Welcome(spec.name, spec.version)
    async with (
        expose(render_of(registry), order.host, order.readers) as metrics,
        Host(version, order.backend, events, load) as host,
        serve(host, welcome, order.token, order.unix, "" if order.is_alone else order.host) as (
            channel,
            port,
        ),
    ):
        address = Address(order.node, order.unix, order.host, port)
        go_away = partial(_go_away, host, channel, order, find_successors)
        ready(
            ReplicaHandle(
                host.version,
                _labels(version),
                address,
                metrics,
                lambda: host.health().is_ready,
                go_away,
            )
        )
        await stop.wait()
        await go_away()
        async with asyncio.timeout(DRAIN_S):
            await channel.wait_answered()
            await host.drain()


async def _go_away(
    host: Host, channel: ChannelServer, order: ReplicaConfig, find_successors: FindSuccessors
) -> None:
    """Once: gateways that have closed their channels would not hear who has what."""
    if channel.is_going_away:
        return
    channel.say_going_away()
    spec = host.spec
    source = Source(
        model=spec.name,
        version=spec.version,
        node=order.node,
        token=order.token,
        tell_moved=channel.say_moved,
    )
    await hand_over_to_successors(host.sequences, source, find_successors)


def _labels(version: ModelVersion) -> tuple[str, ...]:
    output = version.spec.classes
    if output is None or output.labels is None:
        return ()
    return tuple(version.path(output.labels).read_text(encoding="utf-8").splitlines())
