"""The serving path in threads of this process, without Ray: a real host, channel and gateway."""

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from loadtests.support.doubler import make_doubler
from loadtests.support.gated_backend import GatedBackend, GateLoader
from loadtests.support.http_request import http_request, status_of, wait_until
from loadtests.support.ports import HOST, free_port

from headrace import backends
from headrace.edge.limits import EdgeLimits
from headrace.fleet.entries import Fleet, ReplicaEntry
from headrace.gateway.program import GatewayConfig, GatewayHandle, serve_gateway
from headrace.gateway.settings import GatewayLimits, GatewayModelSettings, GatewaySettings
from headrace.process.loop_thread import LoopThread
from headrace.replica.host import Load
from headrace.replica.program import ReplicaConfig, ReplicaHandle, serve_replica

__all__ = ["EDGE", "InProcessPlatform", "gated_platform", "in_process_platform"]

EDGE = EdgeLimits(max_body_bytes=100_000)
_LIMITS = GatewayLimits(max_in_flight=64, default_timeout_s=10.0)
_NODE, _TOKEN = "here", "a token"
_START_TIMEOUT_S, _STOP_TIMEOUT_S = 60.0, 30.0


@dataclass(frozen=True, kw_only=True)
class InProcessPlatform:
    """A gateway at `port` in front of one replica, which shows its metrics at `metrics`
    (`host:port`).

    `tls` is what a client trusts if the gateway speaks TLS.
    """

    port: int
    metrics: str
    entry: ReplicaEntry
    replica_thread: "LoopThread[ReplicaHandle]"
    gateway: GatewayHandle
    gateway_thread: "LoopThread[GatewayHandle]"
    tls: ssl.SSLContext | None = None

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body (parsed if it is JSON) and headers, over a connection of its own."""
        answer = http_request(self.port, method, path, body, headers, tls=self.tls)
        document = answer.json
        return answer.status, answer.body if document is None else document, answer.headers

    def infer(self, rows: "np.ndarray", **more: Any) -> tuple[int, Any, dict[str, str]]:
        """Infer rows [n, 4] by the doubler; `more` goes into the body beside its inputs."""
        tensor = {
            "name": "x",
            "shape": list(rows.shape),
            "datatype": "FP32",
            "data": rows.ravel().tolist(),
        }
        body = orjson.dumps({"inputs": [tensor], **more})
        return self.ask("POST", "/v2/models/doubler/infer", body)


@contextmanager
def in_process_platform(
    folder: Path,
    load: Load = backends.load,
    edge: EdgeLimits = EDGE,
    keys: Path | None = None,
    make: Callable[[Path, Path], Path] = make_doubler,
    tls: tuple[Path, Path] | None = None,
    models: Mapping[str, GatewayModelSettings] | None = None,
    names: tuple[str, ...] = (),
    origins: tuple[str, ...] = (),
    limits: GatewayLimits = _LIMITS,
    shutdown_delay_s: float = 0.0,
) -> Iterator[InProcessPlatform]:
    """Serve the version that `make` makes, given a folder for its own files and a repository."""
    version = make(folder, folder / "repository")
    unix = str(folder / "replica.sock")
    config = ReplicaConfig(str(version), "onnx", _NODE, HOST, unix, _TOKEN)
    replica_thread: LoopThread[ReplicaHandle] = LoopThread(
        "replica", partial(serve_replica, config, load=load)
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
    gateway_config = GatewayConfig(
        settings=settings,
        models=models or {},
        token=_TOKEN,
        node=_NODE,
        address=HOST,
        edge=edge,
    )
    gateway_thread: LoopThread[GatewayHandle] = LoopThread(
        "gateway", partial(serve_gateway, gateway_config)
    )
    try:
        replica = replica_thread.start(_START_TIMEOUT_S)
        gateway = gateway_thread.start(_START_TIMEOUT_S)
        spec = replica.version.spec
        entry = ReplicaEntry("one", spec, replica.labels, replica.address, "onnx")
        gateway_thread.call(lambda: gateway.update(Fleet(1, (spec.name,), (entry,), ())))
        trusted = ssl.create_default_context(cafile=tls[0]) if tls else None
        wait_until(
            lambda: status_of(port, "/v2/health/ready", tls=trusted) == 200,
            _START_TIMEOUT_S,
            "the replica did not become ready",
        )
        yield InProcessPlatform(
            port=port,
            metrics=replica.metrics,
            entry=entry,
            replica_thread=replica_thread,
            gateway=gateway,
            gateway_thread=gateway_thread,
            tls=trusted,
        )
    finally:
        gateway_thread.stop()
        replica_thread.stop()
        assert gateway_thread.wait(_STOP_TIMEOUT_S)
        assert replica_thread.wait(_STOP_TIMEOUT_S)


@contextmanager
def gated_platform(folder: Path) -> Iterator[tuple[InProcessPlatform, GatedBackend]]:
    """Serve the doubler behind a gate that is shut; it is opened at the end."""
    loader = GateLoader()
    with in_process_platform(folder, loader) as platform:
        loader.backend.shut()
        try:
            yield platform, loader.backend
        finally:
            loader.backend.open()
