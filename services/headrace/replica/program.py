"""One replica as an asyncio program without Ray: host, channel and metrics, from start to drain."""

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
    """The settings of a replica.

    `unix` is the path of its socket; `host` is this node's address, for TCP and for metrics. On a
    lone node, `is_alone`, all gateways use the socket, and nothing listens on TCP. Unless `host` is
    a loopback address, `readers` of its metrics must identify themselves.
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
    """A replica that serves. `metrics` is `host:port`; `is_ready` may be called from any thread.

    The version's spec is as the warm-up left it. `go_away`, on the replica's loop, stops new work
    and hands the open sequences over; requests that still come are answered.
    """

    version: ModelVersion
    labels: tuple[str, ...]
    address: Address
    metrics: str
    is_ready: Callable[[], bool]
    go_away: Callable[[], Coroutine[None, None, None]]


async def serve_replica(
    config: ReplicaConfig,
    ready: Callable[[ReplicaHandle], None],
    stop: asyncio.Event,
    load: Load = backends.load,
    find_successors: FindSuccessors = no_successors,
) -> None:
    """Load, warm up and serve a model version until `stop`; then drain, and end.

    A drain has three moments: the replica goes away (nothing starts, gateways are told), hands its
    sequences over, and answers the rest.

    `find_successors` finds the replicas that may take its sequences over. Raises BadSpec or
    StartFailed if the model cannot be served.
    """
    version = read_version(Path(config.folder))
    verify(version)
    spec = version.spec
    registry = CollectorRegistry()
    events = PrometheusReplica(
        registry, spec.name, spec.version, has_raw_input=spec.raw is not None
    )
    welcome = Welcome(spec.name, spec.version)
    network = "" if config.is_alone else config.host
    async with (
        expose(render_of(registry), config.host, config.readers) as metrics,
        Host(version, config.backend, events, load) as host,
        serve(host, welcome, config.token, config.unix, network) as (channel, port),
    ):
        address = Address(node=config.node, unix=config.unix, host=config.host, port=port)
        go_away = partial(_go_away, host, channel, config, find_successors)
        ready(
            ReplicaHandle(
                version=host.version,
                labels=_labels(version),
                address=address,
                metrics=metrics,
                is_ready=lambda: host.health().is_ready,
                go_away=go_away,
            )
        )
        await stop.wait()
        await go_away()  # does nothing if the handle's was called, as Serve's graceful stop does
        async with asyncio.timeout(DRAIN_S):
            await channel.wait_answered()
            await host.drain()


async def _go_away(
    host: Host, channel: ChannelServer, config: ReplicaConfig, find_successors: FindSuccessors
) -> None:
    """Go away, once: gateways that have closed their channels would not hear of a handover."""
    if channel.is_going_away:
        return
    channel.say_going_away()
    spec = host.spec
    source = Source(
        model=spec.name,
        version=spec.version,
        node=config.node,
        token=config.token,
        tell_moved=channel.say_moved,
    )
    await hand_over_to_successors(host.sequences, source, find_successors)


def _labels(version: ModelVersion) -> tuple[str, ...]:
    output = version.spec.classes
    if output is None or output.labels is None:
        return ()
    return tuple(version.path(output.labels).read_text(encoding="utf-8").splitlines())
