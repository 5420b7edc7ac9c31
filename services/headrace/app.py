"""The composition root: settings and models in, Serve applications out; and the platform's life on one machine."""

import http.client
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import ray
from ray import serve
from ray.serve.api import RunTarget
from ray.serve.schema import LoggingConfig

from headrace.admin.deployment import AdminReplica
from headrace.config import ModelSettings, Settings, cluster_address
from headrace.errors import StartFailed
from headrace.fleet.directory import start_directory
from headrace.gateway.deployment import GatewayReplica
from headrace.gateway.serving import GatewayOrder
from headrace.replica.deployment import ModelReplica
from headrace_models.repository import ModelVersion

__all__ = ["deploy", "start_ray", "stop", "wait_for_gateway", "wait_until_ready"]

GATEWAY, ADMIN = "gateway", "admin"
START_TIMEOUT_S = 600.0
READY_TIMEOUT_S = 30.0
_POLL_S = 0.2
_GONE = ("DEPLOY_FAILED", "UNHEALTHY")


def start_ray(settings: Settings, versions: Sequence[ModelVersion]) -> None:
    """Join the cluster that RAY_ADDRESS names, or start a node here that has room for everything."""
    if cluster_address():
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    else:
        wanted = settings.gateway.replicas + sum(_cpus(settings, v) * _count(settings, v) for v in versions)
        ray.init(
            num_cpus=max(os.cpu_count() or 1, int(wanted + 1)),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            object_store_memory=100 << 20,
        )
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(proxy_location="Disabled")


def deploy(settings: Settings, versions: Sequence[ModelVersion]) -> None:
    """Ask Serve for every application; it starts them in the background and keeps them alive from then on."""
    token = secrets.token_hex(32)
    start_directory([v.spec.name for v in versions])
    targets = [_gateway(settings, token), _admin(settings)]
    targets += [_model(settings, version, token) for version in versions]
    serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def wait_until_ready(names: Sequence[str], told: Callable[[str], None], ended: threading.Event) -> list[str]:
    """Wait until every application runs, telling the name of each; gives one line for each that cannot start."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    waiting = {GATEWAY, ADMIN, *names}
    failed: list[str] = []
    while waiting and not ended.wait(_POLL_S):
        if time.monotonic() > deadline_s:
            raise StartFailed(f"not ready within {START_TIMEOUT_S:g} s: {', '.join(sorted(waiting))}")
        applications = serve.status().applications
        for name in sorted(waiting):
            status = applications[name].status if name in applications else "DEPLOYING"
            if status == "RUNNING":
                told(name)
            elif status in _GONE:
                failed.append(f"{name}: {_last_line(applications[name])}")
            else:
                continue
            waiting.discard(name)
    return failed


def wait_for_gateway(settings: Settings, ended: threading.Event) -> None:
    """Wait until the gateway says that every model can answer. Raises StartFailed when it does not in time."""
    gateway = settings.gateway
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while not ended.wait(_POLL_S / 4):
        if _is_ready(gateway.host, gateway.port):
            return
        if time.monotonic() > deadline_s:
            raise StartFailed(f"the gateway at {gateway.host}:{gateway.port} was not ready in {READY_TIMEOUT_S:g} s")


def _is_ready(host: str, port: int) -> bool:
    own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where it listens, not a bind
    connection = http.client.HTTPConnection(own, port, timeout=2)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def stop() -> None:
    """Drain: first the gateways, then everything behind them; then the node, if it was started here."""
    for name in (GATEWAY, ADMIN):
        serve.delete(name)
    serve.shutdown()  # type: ignore[no-untyped-call] # Ray's own lack of types
    ray.shutdown()


def _last_line(application: "serve.schema.ApplicationStatusOverview") -> str:
    messages = [d.message for d in application.deployments.values()] or [application.message]
    lines = [line for line in messages[0].strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it did not start"


def _is_alone() -> bool:
    """This machine is the whole platform; then only its data port may face the network."""
    return cluster_address() is None


def _cpus(settings: Settings, version: ModelVersion) -> float:
    return settings.model.get(version.spec.name, ModelSettings()).cpus or version.spec.replica.cpus


def _count(settings: Settings, version: ModelVersion) -> int:
    return settings.model.get(version.spec.name, ModelSettings()).replicas or version.spec.replica.count


def _gateway(settings: Settings, token: str) -> RunTarget:
    gateway = settings.gateway
    order = GatewayOrder(
        host=gateway.host,
        port=gateway.port,
        node="",
        address="",
        token=token,
        limits=gateway.limits,
        edge=gateway.edge,
        keys=gateway.keys,
        tls=(gateway.tls_certificate, gateway.tls_key) if gateway.tls_certificate and gateway.tls_key else None,
        labels={name: model.labels for name, model in settings.model.items()},
        bodies={name: m.max_body_bytes for name, m in settings.model.items() if m.max_body_bytes},
    )
    deployment = _deployment(GatewayReplica, "gateway", gateway.replicas, {"num_cpus": 1}, grace_s=30)
    return _target(GATEWAY, deployment.bind(order, _is_alone()))


def _admin(settings: Settings) -> RunTarget:
    deployment = _deployment(AdminReplica, "admin", 1, {"num_cpus": 0}, grace_s=5)
    return _target(ADMIN, deployment.bind(settings.admin.host, settings.admin.port, _is_alone()))


def _model(settings: Settings, version: ModelVersion, token: str) -> RunTarget:
    changes = settings.model.get(version.spec.name, ModelSettings())
    backend = changes.backend or version.spec.backend
    if backend not in version.spec.weights:
        raise StartFailed(f"model.{version.spec.name}.backend: expected one of {sorted(version.spec.weights)}")
    gpus = version.spec.replica.gpus if changes.gpus is None else changes.gpus
    options = {"num_cpus": _cpus(settings, version), "num_gpus": gpus}
    deployment = _deployment(ModelReplica, "replica", _count(settings, version), options, grace_s=30)
    return _target(version.spec.name, deployment.bind(str(Path(version.folder).resolve()), backend, token, _is_alone()))


def _deployment(kind: type, name: str, replicas: int, options: dict[str, float], grace_s: float) -> serve.Deployment:
    make = serve.deployment(
        name=name,
        num_replicas=replicas,
        ray_actor_options=options,
        health_check_period_s=1.0,
        health_check_timeout_s=5.0,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=grace_s,
        logging_config=LoggingConfig(enable_access_log=False),
    )
    return make(kind)


def _target(name: str, application: serve.Application) -> RunTarget:
    return RunTarget(application, name=name, route_prefix=None)
