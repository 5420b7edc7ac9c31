"""The serving path in one process and without Ray: a real host, channel and gateway around a tiny ONNX model."""

import http.client
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import orjson
from onnx import TensorProto, helper
from tests.platform.running import free_port

from headrace import backends
from headrace.backends import Backend
from headrace.edge.limits import EdgeLimits
from headrace.fleet.entries import Fleet, ReplicaEntry
from headrace.gateway.program import GatewayConfig, GatewayHandle, serve_gateway
from headrace.gateway.settings import GatewayLimits, GatewayModelSettings, GatewaySettings
from headrace.process.loop_thread import LoopThread
from headrace.replica.host import Load
from headrace.replica.program import ReplicaConfig, ReplicaHandle, serve_replica
from headrace_models.add import add
from headrace_models.repository import ModelVersion

__all__ = ["Gated", "Plain", "gated_plain", "make_doubler", "plain"]

TOKEN = "a token"
LIMITS = GatewayLimits(max_in_flight=64, default_timeout_s=10.0)
EDGE = EdgeLimits(max_body_bytes=100_000)


def make_doubler(folder: Path, repository: Path) -> Path:
    """A model that doubles `x` FP32 [n, 4] into `y`; the folder of its version."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "doubler",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    file = folder / "doubler.onnx"
    onnx.save(model, str(file))
    return add(file, "doubler", repository)


@dataclass
class Plain:
    """A gateway at `port` and the threads behind it; `metrics` is where the replica's are, `host:port`.

    `tls` is what a client of it trusts, if it speaks TLS.
    """

    port: int
    metrics: str
    replica: "LoopThread[ReplicaHandle]"
    gateway: GatewayHandle
    front: "LoopThread[GatewayHandle]"
    entry: ReplicaEntry
    tls: ssl.SSLContext | None = None

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON body (None if there is none) and headers, on a connection of its own."""
        connection = (
            http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=self.tls)
            if self.tls
            else http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        )
        try:
            connection.request(method, path, body or None, headers or {})
            answer = connection.getresponse()
            content = answer.read()
            is_json = (
                answer.getheader("content-type") == "application/json" and content[:1] in b"{["
            )
            headers_found = {name.lower(): value for name, value in answer.getheaders()}
            return (
                answer.status,
                orjson.loads(content) if is_json and content else content,
                headers_found,
            )
        finally:
            connection.close()

    def infer(self, rows: "np.ndarray", **more: Any) -> tuple[int, Any, dict[str, str]]:
        tensor = {
            "name": "x",
            "shape": list(rows.shape),
            "datatype": "FP32",
            "data": rows.ravel().tolist(),
        }
        return self.ask(
            "POST", "/v2/models/doubler/infer", orjson.dumps({"inputs": [tensor], **more})
        )


class Gated:
    """A backend that, once shut, waits in its batches until it is let go; `rows` are those that it ran since."""

    def __init__(self, version: ModelVersion, name: str) -> None:
        self._real: Backend = backends.load(version, name)
        self.device = "cpu"
        self.lanes = 1
        self.is_shut = False
        self.entered, self.gate = threading.Event(), threading.Event()
        self.rows: list[float] = []

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.is_shut:
            self.rows += inputs["x"][:, 0].tolist()
            self.entered.set()
            assert self.gate.wait(20)
        return self._real.run(inputs)


@contextmanager
def plain(
    folder: Path,
    load: Load = backends.load,
    edge: EdgeLimits = EDGE,
    keys: Path | None = None,
    make: Callable[[Path, Path], Path] = make_doubler,
    tls: tuple[Path, Path] | None = None,
    models: Mapping[str, GatewayModelSettings] | None = None,
    names: tuple[str, ...] = (),
    origins: tuple[str, ...] = (),
    limits: GatewayLimits = LIMITS,
    shutdown_delay_s: float = 0.0,
) -> Iterator[Plain]:
    """Serve the version that `make` makes out of a folder and a repository."""
    version = make(folder, folder / "repository")
    order = ReplicaConfig(
        str(version), "onnx", "here", "127.0.0.1", str(folder / "replica.sock"), TOKEN
    )
    replica: LoopThread[ReplicaHandle] = LoopThread(
        "replica", partial(serve_replica, order, load=load)
    )
    port = free_port()
    certificate, tls_key = tls or (None, None)
    settings = GatewaySettings(
        **limits.model_dump(),
        port=port,
        keys=keys,
        tls_certificate=certificate,
        tls_key=tls_key,
        names=names,
        origins=origins,
        shutdown_delay_s=shutdown_delay_s,
    )
    config = GatewayConfig(
        settings=settings,
        models=models or {},
        token=TOKEN,
        node="here",
        address="127.0.0.1",
        edge=edge,
    )
    gateway: LoopThread[GatewayHandle] = LoopThread("gateway", partial(serve_gateway, config))
    try:
        served = replica.start(60)
        listening = gateway.start(60)
        entry = ReplicaEntry("one", served.version.spec, served.labels, served.address, "onnx")
        gateway.call(lambda: listening.update(Fleet(1, (served.version.spec.name,), (entry,), ())))
        trusted = ssl.create_default_context(cafile=tls[0]) if tls else None
        running = Plain(port, served.metrics, replica, listening, gateway, entry, trusted)
        while running.ask("GET", "/v2/health/ready")[0] != 200:
            assert replica.is_alive
        yield running
    finally:
        gateway.stop()
        replica.stop()
        assert gateway.wait(30)
        assert replica.wait(30)


@contextmanager
def gated_plain(folder: Path) -> Iterator[tuple[Plain, Gated]]:
    """The same around a backend whose gate is shut; it is let go at the end."""
    made: list[Gated] = []

    def load(version: ModelVersion, name: str) -> Backend:
        made.append(Gated(version, name))
        return made[0]

    with plain(folder, load) as running:
        made[0].is_shut = True
        try:
            yield running, made[0]
        finally:
            made[0].gate.set()
