"""A gateway and its replicas without Ray, each in a process of its own."""

import os
import resource
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from loadtests.support.checkout import REPOSITORY
from loadtests.support.child_process import START_TIMEOUT_S, child_process, serve_until_closed
from loadtests.support.http_request import status_of, wait_until
from loadtests.support.ports import HOST, free_port

from headrace import backends
from headrace.channel import Address
from headrace.edge.limits import EdgeLimits
from headrace.fleet.entries import Fleet, ReplicaEntry
from headrace.gateway.program import GatewayConfig, GatewayHandle, serve_gateway
from headrace.gateway.settings import GatewayLimits, GatewaySettings
from headrace.process.loop_thread import LoopThread
from headrace.replica.host import Load
from headrace.replica.program import ReplicaConfig, ReplicaHandle, serve_replica
from headrace_models.repository import read_version, scan

__all__ = ["ProcessPlatform", "Replica", "built_replicas", "process_platform"]

_NODE, _TOKEN = "here", "a token"


@dataclass(frozen=True)
class Replica:
    """A version's folder and its loader. `prepare` runs first in the replica's process.

    Both are functions of a module, since they are pickled by name.
    """

    folder: Path
    load: Load = backends.load
    prepare: Callable[[], None] | None = None


@dataclass(frozen=True)
class _Running:
    """A replica's entry for the gateway, and its process."""

    entry: ReplicaEntry
    pid: int
    metrics: str


@dataclass(frozen=True, kw_only=True)
class ProcessPlatform:
    """A gateway at `port`; pids, and metrics addresses (`host:port`), of replicas in order."""

    port: int
    metrics: str
    gateway: int
    replicas: Sequence[int]
    replica_metrics: Sequence[str]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def processes(self) -> Sequence[int]:
        return (self.gateway, *self.replicas)


def built_replicas(models: Sequence[str]) -> list[Replica]:
    """One replica of each built model. Raises ModelError for one that is not built."""
    return [Replica(version.folder) for version in scan(REPOSITORY, models)[0]]


@contextmanager
def process_platform(
    replicas: Sequence[Replica],
    edge: EdgeLimits | None = None,
    limits: GatewayLimits | None = None,
    keys: Path | None = None,
) -> Iterator[ProcessPlatform]:
    """Serve the replicas; yields when the gateway says that every model is ready."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="platform-")))
        running = [
            _start_replica(stack, number, replica, folder / f"{number}.sock")
            for number, replica in enumerate(replicas)
        ]
        port = free_port()
        settings = GatewaySettings(
            **(limits or GatewayLimits()).model_dump(), host=HOST, port=port, keys=keys
        )
        config = GatewayConfig(settings=settings, token=_TOKEN, node=_NODE, address=HOST, edge=edge)
        entries = [replica.entry for replica in running]
        metrics, gateway = stack.enter_context(child_process(_run_gateway, config, entries))
        wait_until(
            lambda: status_of(port, "/v2/health/ready") == 200,
            START_TIMEOUT_S,
            f"the models were not ready within {START_TIMEOUT_S:g} s",
        )
        yield ProcessPlatform(
            port=port,
            metrics=metrics,
            gateway=gateway,
            replicas=[replica.pid for replica in running],
            replica_metrics=[replica.metrics for replica in running],
        )


def _start_replica(stack: ExitStack, number: int, replica: Replica, unix: Path) -> _Running:
    process = child_process(_run_replica, replica, str(unix))
    channel_port, pid, metrics = stack.enter_context(process)
    version = read_version(replica.folder)
    labels = version.spec.classes and version.spec.classes.labels
    texts = version.path(labels).read_text(encoding="utf-8").splitlines() if labels else []
    address = Address(_NODE, str(unix), HOST, channel_port)
    entry = ReplicaEntry(f"replica-{number}", version.spec, tuple(texts), address, "onnx")
    return _Running(entry, pid, metrics)


def _run_replica(replica: Replica, unix: str, pipe: Connection) -> None:
    if replica.prepare:
        replica.prepare()
    config = ReplicaConfig(str(replica.folder), "onnx", _NODE, HOST, unix, _TOKEN)
    thread: LoopThread[ReplicaHandle] = LoopThread(
        "replica", partial(serve_replica, config, load=replica.load)
    )

    def announce(handle: ReplicaHandle) -> None:
        pipe.send((handle.address.port, os.getpid(), handle.metrics))

    serve_until_closed(thread, pipe, announce)


def _run_gateway(config: GatewayConfig, entries: Sequence[ReplicaEntry], pipe: Connection) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    thread: LoopThread[GatewayHandle] = LoopThread("gateway", partial(serve_gateway, config))
    names = tuple({entry.spec.name for entry in entries})

    def announce(handle: GatewayHandle) -> None:
        thread.call(lambda: handle.update(Fleet(1, names, tuple(entries), ())))
        pipe.send((handle.metrics, os.getpid()))

    serve_until_closed(thread, pipe, announce)
