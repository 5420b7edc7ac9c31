"""The composition root: settings and models in, Serve applications out.

Each model version is an application of its own, so that a new one can start beside the old one.
"""

import logging
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.api import RunTarget
from ray.serve.schema import LoggingConfig

from headrace.admin.deployment import AdminReplica
from headrace.admin.program import AdminConfig
from headrace.config import ModelSettings, Settings, cluster_address
from headrace.edge.names import host_port
from headrace.edge.probe import fetch
from headrace.edge.readers import Readers
from headrace.errors import StartFailed
from headrace.fleet.calls import start_directory
from headrace.gateway.deployment import GatewayReplica
from headrace.gateway.program import GatewayConfig
from headrace.gateway.settings import GatewaySettings
from headrace.replica.deployment import ModelReplica
from headrace_models.repository import ModelVersion

__all__ = [
    "Applications",
    "deploy",
    "start_ray",
    "stop",
    "stop_ray",
    "wait_for_gateway",
    "wait_until_ready",
]

log = logging.getLogger(__name__)

GATEWAY, ADMIN = "gateway", "admin"
START_TIMEOUT_S = 600.0
LOAD_TIMEOUT_S = 300.0
READY_TIMEOUT_S = 30.0
_POLL_S = 0.2
_DRAIN_GRACE_S = 30.0
_GONE = ("DEPLOY_FAILED", "UNHEALTHY")


def start_ray(run: Path) -> None:
    """Join the cluster that RAY_ADDRESS names, or start a node here with its files in `run`."""
    if cluster_address():
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    else:
        ray.init(
            address="local",  # not a node that another user's file names
            _temp_dir=str(run),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            object_store_memory=100 << 20,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Applications:
    """The applications of model versions. `token` opens the channels; `readers` may read metrics.

    Once `ended` is set, nothing waits any more.
    """

    settings: Settings
    token: str
    readers: Readers
    ended: threading.Event

    def deploy(self, version: ModelVersion) -> None:
        _run([_model(self.settings, version, self.token, self.readers)])

    def wait_until_running(self, version: ModelVersion) -> str:
        """Wait until it runs; returns an empty string, or in one line why it does not run."""
        name = _name(version)
        try:
            failed = _wait_until_running({name}, lambda _: None, self.ended, LOAD_TIMEOUT_S)
        except StartFailed:
            return f"it does not run within {LOAD_TIMEOUT_S:g} s"
        return "the platform is shutting down" if self.ended.is_set() else failed.get(name, "")

    def delete(self, version: ModelVersion) -> None:
        """Let it answer its requests, and end it.

        After an error Serve goes on with that by itself.
        """
        if self.ended.is_set():
            return
        try:
            serve.delete(_name(version))
        except (RayError, TimeoutError) as error:
            log.warning("%s ends late: %s", _name(version), type(error).__name__)

    def given_up(self, versions: Sequence[ModelVersion]) -> list[ModelVersion]:
        """The versions that Serve has given up: after a few failed starts and no successful one.

        A version unknown to Serve was deleted, and could not be deployed again.
        """
        status = serve.status().applications
        if self.ended.is_set() or not status:  # without even a gateway, Serve itself is missing
            return []
        return [
            v
            for v in versions
            if _name(v) not in status or status[_name(v)].status == "DEPLOY_FAILED"
        ]


def deploy(
    settings: Settings,
    versions: Sequence[ModelVersion],
    ended: threading.Event,
    lifeline: Path | None = None,
) -> Applications:
    """Ask Serve for all applications; it starts them in the background and keeps them alive.

    `lifeline` is the socket that the gateways of a lone node hold.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(proxy_location="Disabled")
    token = secrets.token_hex(32)
    readers = settings.gateway.readers(secrets.token_hex(32))
    start_directory([v.spec.name for v in versions])
    models = [_model(settings, v, token, readers) for v in versions]
    _run([_gateway(settings, token, readers, lifeline), _admin(settings, readers), *models])
    return Applications(settings=settings, token=token, readers=readers, ended=ended)


def wait_until_ready(
    versions: Sequence[ModelVersion], report: Callable[[str], None], ended: threading.Event
) -> dict[str, str]:
    """Wait until every application runs; `report` gets the name of each.

    Returns the reasons why models did not start, by name; their applications are deleted.
    """
    names = {_name(v): v.spec.name for v in versions}
    failed = _wait_until_running({GATEWAY, ADMIN, *names}, report, ended, START_TIMEOUT_S)
    for name in failed.keys() & names.keys():
        serve.delete(name)
    return {names.get(name, name): reason for name, reason in failed.items()}


def _run(targets: Sequence[RunTarget]) -> None:
    serve.run_many(
        targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False
    )


def _wait_until_running(
    names: set[str], report: Callable[[str], None], ended: threading.Event, timeout_s: float
) -> dict[str, str]:
    deadline_s = time.monotonic() + timeout_s
    waiting = set(names)
    failed: dict[str, str] = {}
    while waiting and not ended.wait(_POLL_S):
        if time.monotonic() > deadline_s:
            raise StartFailed(
                f"{', '.join(sorted(waiting))}: expected to run within {timeout_s:g} s, "
                "found still starting"
            )
        applications = serve.status().applications
        for name in sorted(waiting):
            status = applications[name].status if name in applications else "DEPLOYING"
            if status == "RUNNING":
                report(name)
            elif status in _GONE:
                failed[name] = _last_line(applications[name])
            else:
                continue
            waiting.discard(name)
    return failed


def wait_for_gateway(settings: Settings, ended: threading.Event) -> None:
    """Wait until the gateway reports that all models can answer.

    Raises StartFailed after a while.
    """
    gateway = settings.gateway
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while not ended.wait(_POLL_S / 4):
        if _is_ready(gateway):
            return
        if time.monotonic() > deadline_s:
            address = host_port(gateway.host, gateway.port)
            raise StartFailed(
                f"the gateway at {address}: expected to be ready within {READY_TIMEOUT_S:g} s, "
                "found not ready"
            )


def _is_ready(gateway: GatewaySettings) -> bool:
    host, port = gateway.host, gateway.port
    own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where it listens, not a bind
    url = f"http://{host_port(own, port)}/v2/health/ready"
    context = None
    if gateway.tls_certificate:  # our own certificate, which need not name this address
        url = url.replace("http", "https", 1)
        context = ssl._create_unverified_context()  # noqa: S323
    try:
        return fetch(url, timeout_s=2, context=context).status == 200
    except OSError:
        return False


def stop() -> None:
    """Drain: first the gateways, then everything behind them."""
    for name in (GATEWAY, ADMIN):
        serve.delete(name)
    serve.shutdown()  # type: ignore[no-untyped-call] # Ray's own lack of types


def stop_ray() -> None:
    """Leave the cluster, or end the node that was started here."""
    ray.shutdown()


def _last_line(application: "serve.schema.ApplicationStatusOverview") -> str:
    messages = [d.message for d in application.deployments.values()] or [application.message]
    lines = [line for line in messages[0].strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it did not start"


def _is_alone() -> bool:
    """This machine is the whole platform. Then only its data port may face the network."""
    return cluster_address() is None


def _name(version: ModelVersion) -> str:
    """The application's name. Names of models and versions never contain an @."""
    return f"{version.spec.name}@{version.spec.version}"


def _cpus(wanted: float) -> float:
    """The cores that an actor reserves in Ray.

    On a lone node it reserves none: everything must fit, and more may be loaded later.
    """
    return 0 if _is_alone() else wanted


def _gateway(settings: Settings, token: str, readers: Readers, lifeline: Path | None) -> RunTarget:
    gateway = settings.gateway
    config = GatewayConfig(
        settings=gateway, models=settings.model, token=token, readers=readers, lifeline=lifeline
    )
    deployment = _deployment(
        GatewayReplica,
        "gateway",
        replicas=gateway.replicas,
        options={"num_cpus": _cpus(1)},
        grace_s=gateway.shutdown_delay_s + _DRAIN_GRACE_S,
    )
    return _target(GATEWAY, deployment.bind(config, _is_alone()))


def _admin(settings: Settings, readers: Readers) -> RunTarget:
    gateway = settings.gateway
    config = AdminConfig(
        settings=settings.admin, keys=gateway.keys, names=gateway.names, readers=readers
    )
    deployment = _deployment(AdminReplica, "admin", replicas=1, options={"num_cpus": 0}, grace_s=5)
    return _target(ADMIN, deployment.bind(config, _is_alone()))


def _model(settings: Settings, version: ModelVersion, token: str, readers: Readers) -> RunTarget:
    changes = settings.model.get(version.spec.name, ModelSettings())
    backend = changes.backend or version.spec.backend
    if backend not in version.spec.weights:
        raise StartFailed(
            f"model.{version.spec.name}.backend: expected one of {sorted(version.spec.weights)}, "
            f'found "{backend}"'
        )
    gpus = version.spec.replica.gpus if changes.gpus is None else changes.gpus
    options = {"num_cpus": _cpus(changes.cpus or version.spec.replica.cpus), "num_gpus": gpus}
    count = changes.replicas or version.spec.replica.count
    deployment = _deployment(
        ModelReplica, "replica", replicas=count, options=options, grace_s=_DRAIN_GRACE_S
    )
    folder = str(Path(version.folder).resolve())
    return _target(_name(version), deployment.bind(folder, backend, token, readers, _is_alone()))


def _deployment(
    kind: type, name: str, *, replicas: int, options: dict[str, float], grace_s: float
) -> serve.Deployment:
    make = serve.deployment(
        name=name,
        num_replicas=replicas,
        ray_actor_options=options,
        # This timeout is rarely needed: a dead process is noticed without it, a stopped one is
        # ended by its guardian, and a failing check fails at once. Three short ones in a row would
        # end sound processes when CPU is short.
        health_check_period_s=1.0,
        health_check_timeout_s=10.0,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=grace_s,
        logging_config=LoggingConfig(enable_access_log=False),
    )
    return make(kind)


def _target(name: str, application: serve.Application) -> RunTarget:
    # An external scaler may change the number of replicas through Serve's interface, without
    # restarts.
    return RunTarget(application, name=name, route_prefix=None, external_scaler_enabled=True)
