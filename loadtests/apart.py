"""A gateway and the replicas behind it, each in a process of its own and without Ray, for load tests."""

import http.client
import multiprocessing
import os
import resource
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from loadtests.inputs import REPOSITORY

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

__all__ = [
    "HOST",
    "Platform",
    "Replica",
    "built",
    "free_port",
    "platform",
    "process",
    "serve_until_closed",
]

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
_NODE, _TOKEN = "here", "apart"
_POLL_S = 0.02

T = TypeVar("T")


@dataclass(frozen=True)
class Replica:
    """A version's folder, and how it is loaded. `prepare` runs first in its process; both are functions of a module."""

    folder: Path
    load: Load = backends.load
    prepare: Callable[[], None] | None = None


@dataclass(frozen=True)
class Platform:
    """A gateway at `port` that shows its metrics at `metrics`; the processes by their ids, replicas in order."""

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


def built(models: Sequence[str]) -> list[Replica]:
    """One replica of each built model. Raises ModelError for one that is not built."""
    return [Replica(version.folder) for version in scan(REPOSITORY, models)[0]]


@contextmanager
def platform(
    replicas: Sequence[Replica],
    edge: EdgeLimits | None = None,
    limits: GatewayLimits | None = None,
    keys: Path | None = None,
) -> Iterator[Platform]:
    """Serve these, and wait until the gateway says that every model is ready, which it tells without a key."""
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="apart-"))
        entries: list[ReplicaEntry] = []
        pids: list[int] = []
        metrics: list[str] = []
        for number, replica in enumerate(replicas):
            unix = f"{place}/{number}.sock"
            channel_port, pid, shown_at = stack.enter_context(process(_run_replica, replica, unix))
            version = read_version(replica.folder)
            labels = version.spec.classes and version.spec.classes.labels
            texts = version.path(labels).read_text(encoding="utf-8").splitlines() if labels else []
            address = Address(_NODE, unix, HOST, channel_port)
            entries.append(
                ReplicaEntry(f"replica-{number}", version.spec, tuple(texts), address, "onnx")
            )
            pids.append(pid)
            metrics.append(shown_at)
        port = free_port()
        settings = GatewaySettings(
            **(limits or GatewayLimits()).model_dump(), host=HOST, port=port, keys=keys
        )
        config = GatewayConfig(settings=settings, token=_TOKEN, node=_NODE, address=HOST, edge=edge)
        shown_at, gateway = stack.enter_context(process(_run_gateway, config, entries))
        found = Platform(port, shown_at, gateway, pids, metrics)
        _wait_until_ready(port)
        yield found


def _run_replica(replica: Replica, unix: str, pipe: Connection) -> None:
    if replica.prepare:
        replica.prepare()
    order = ReplicaConfig(str(replica.folder), "onnx", _NODE, HOST, unix, _TOKEN)
    thread: LoopThread[ReplicaHandle] = LoopThread(
        "replica", partial(serve_replica, order, load=replica.load)
    )
    serve_until_closed(
        thread,
        pipe,
        lambda serving: pipe.send((serving.address.port, os.getpid(), serving.metrics)),
    )


def _run_gateway(config: GatewayConfig, entries: Sequence[ReplicaEntry], pipe: Connection) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    thread: LoopThread[GatewayHandle] = LoopThread("gateway", partial(serve_gateway, config))
    names = tuple({entry.spec.name for entry in entries})

    def tell(serving: GatewayHandle) -> None:
        thread.call(lambda: serving.update(Fleet(1, names, tuple(entries), ())))
        pipe.send((serving.metrics, os.getpid()))

    serve_until_closed(thread, pipe, tell)


def serve_until_closed(thread: LoopThread[T], pipe: Connection, tell: Callable[[T], None]) -> None:
    """Run a thread's program until the other end of the pipe closes; `tell` says over the pipe that it serves."""
    tell(thread.start(START_TIMEOUT_S))
    with suppress(EOFError):
        pipe.recv()
    thread.stop()
    thread.wait(START_TIMEOUT_S)


@contextmanager
def process(work: Callable[..., None], *arguments: object) -> Iterator[Any]:
    """A process that runs `work(*arguments, pipe)`; gives the first thing that it tells, and ends it on leaving."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process: BaseProcess = context.Process(target=work, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(START_TIMEOUT_S):
            raise TimeoutError(f"{work.__name__} was not ready within {START_TIMEOUT_S:g} s")
        yield ours.recv()
    finally:
        ours.close()
        process.join(START_TIMEOUT_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(port: int) -> None:
    until_s = time.monotonic() + START_TIMEOUT_S
    while _ready_status(port) != 200:
        if time.monotonic() > until_s:
            raise TimeoutError(f"the models were not ready within {START_TIMEOUT_S:g} s")
        time.sleep(_POLL_S)


def _ready_status(port: int) -> int:
    connection = http.client.HTTPConnection(HOST, port, timeout=START_TIMEOUT_S)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status
    finally:
        connection.close()
