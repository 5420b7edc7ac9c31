"""A gateway and real models behind it, each in a process of its own and without Ray, for attacks to be made on."""

import os
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

from loadtests.inputs import REPOSITORY, is_served
from loadtests.yardstick import free_port, process, serve_until_closed

from headrace.channel import Address
from headrace.edge.limits import EdgeLimits
from headrace.fleet.entries import Fleet, ReplicaEntry
from headrace.gateway.admission import DoorLimits
from headrace.gateway.serving import GatewayOrder, serve_gateway
from headrace.gateway.serving import Serving as GatewayServing
from headrace.loop_thread import LoopThread
from headrace.replica.serving import ReplicaOrder, serve_replica
from headrace.replica.serving import Serving as ReplicaServing
from headrace_models.repository import scan

__all__ = ["HOST", "Platform", "platform"]

HOST = "127.0.0.1"
_NODE, _TOKEN = "here", "abuse"
_START_TIMEOUT_S = 60.0
_POLL_S = 0.02


@dataclass(frozen=True)
class Platform:
    """A gateway at `port` that shows its metrics at `metrics`; `replicas` are the models' processes."""

    port: int
    metrics: str
    gateway: int
    replicas: Mapping[str, int]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def processes(self) -> Sequence[int]:
        return (self.gateway, *self.replicas.values())


@contextmanager
def platform(models: Sequence[str], edge: EdgeLimits | None = None) -> Iterator[Platform]:
    """Built models, served. Raises ModelError for one that is not built."""
    versions, _ = scan(REPOSITORY, models)
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="abuse-"))
        entries: list[ReplicaEntry] = []
        pids: dict[str, int] = {}
        for version in versions:
            name = version.spec.name
            unix = f"{place}/{name}.sock"
            channel_port, pids[name] = stack.enter_context(process(_run_replica, str(version.folder), unix))
            address = Address(_NODE, unix, HOST, channel_port)
            labels = version.spec.classes and version.spec.classes.labels
            texts = version.path(labels).read_text(encoding="utf-8").splitlines() if labels else []
            entries.append(ReplicaEntry(name, version.spec, tuple(texts), address, "onnx"))
        port = free_port()
        metrics, gateway = stack.enter_context(process(_run_gateway, entries, edge or EdgeLimits(), port))
        found = Platform(port, metrics, gateway, pids)
        for name in pids:
            _wait_until_ready(found.url, name)
        yield found


def _run_replica(folder: str, unix: str, pipe: Connection) -> None:
    order = ReplicaOrder(folder, "onnx", _NODE, HOST, unix, _TOKEN)
    thread: LoopThread[ReplicaServing] = LoopThread("replica", partial(serve_replica, order))
    serve_until_closed(thread, pipe, lambda serving: pipe.send((serving.address.port, os.getpid())))


def _run_gateway(entries: Sequence[ReplicaEntry], edge: EdgeLimits, port: int, pipe: Connection) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    order = GatewayOrder(HOST, port, _NODE, HOST, _TOKEN, DoorLimits(), edge)
    thread: LoopThread[GatewayServing] = LoopThread("gateway", partial(serve_gateway, order))
    names = tuple(entry.spec.name for entry in entries)

    def tell(serving: GatewayServing) -> None:
        thread.call(lambda: serving.update(Fleet(1, names, tuple(entries), ())))
        pipe.send((serving.metrics, os.getpid()))

    serve_until_closed(thread, pipe, tell)


def _wait_until_ready(url: str, model: str) -> None:
    until_s = time.monotonic() + _START_TIMEOUT_S
    while not is_served(url, model):
        if time.monotonic() > until_s:
            raise TimeoutError(f"{model} was not ready within {_START_TIMEOUT_S:g} s")
        time.sleep(_POLL_S)
