"""`headrace serve`, from settings to the platform's end."""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from headrace.commands.life import Life
from headrace.commands.preflight import check_exposure, hold_ports
from headrace.commands.terminal import (
    divert,
    err,
    first_line,
    log_traceback,
    out,
    progress_bar,
    warn,
)
from headrace.config import Settings, cluster_address, prepare_ray
from headrace.edge.limits import ENDED_S
from headrace.edge.names import host_port
from headrace.errors import StartFailed
from headrace.process.own_folder import begin_run
from headrace.process.tree import kill_below
from headrace.telemetry import logs
from headrace_models.repository import ModelVersion, scan

__all__ = ["say_ready", "serve", "start_ray"]

LOG = "headrace.log"
WaitUntilReady = Callable[
    [Sequence[ModelVersion], Callable[[str], None], threading.Event], dict[str, str]
]


def serve(settings: Settings) -> int:
    """Serve until a signal; returns the exit code.

    Raises StartFailed, after which nothing of it runs.
    """
    with hold_ports(settings):
        return _serve(settings)


def _serve(settings: Settings) -> int:
    if warning := check_exposure(settings):
        warn(warning)
    versions = _servable(settings)
    run = begin_run()
    prepare_ray(run, warn)
    warn(f"Ray's messages, and any tracebacks, go to {run / LOG}")
    divert(run / LOG)
    lifeline = None if cluster_address() else run / "lifeline"
    life = Life(lifeline, settings.gateway.shutdown_delay_s + ENDED_S)
    _live(settings, versions, life, run, lifeline)
    return life.code


def _live(
    settings: Settings, versions: list[ModelVersion], life: Life, run: Path, lifeline: Path | None
) -> None:
    # Imports Ray, which reads the environment that prepare_ray sets.
    from headrace import app as platform
    from headrace.operation.operator import Operator
    from headrace.operation.workers import FleetMembers, operating

    with progress_bar() as bar:
        bar.add_task("starting Ray", total=None)
        start_ray(
            lambda: platform.start_ray(run),
            lambda: kill_below(os.getpid()),
            is_ours=lifeline is not None,
        )
    life.take_signals()
    life.watches = lifeline is not None
    try:
        applications = platform.deploy(settings, versions, life.ended, lifeline)
        failed = _load(platform.wait_until_ready, versions, life.ended)
        logs.configure("operator", err.file)
        operator = Operator(settings.models, applications, FleetMembers(), versions, failed)
        with operating(operator, life.ended):
            platform.wait_for_gateway(settings, life.ended)
            life.serves = not life.ended.is_set()
            if life.serves:
                say_ready(settings, operator.models)
            life.ended.wait()
        warn("draining")
    except StartFailed as error:
        raise StartFailed(f"{error} (see {run / LOG})") from None
    finally:
        _stop(platform.stop, life)
        platform.stop_ray()


def _load(
    wait: WaitUntilReady, versions: list[ModelVersion], ended: threading.Event
) -> dict[str, str]:
    """Wait for the models and the ports; returns a reason for each model that did not start."""
    with progress_bar() as bar:
        task = bar.add_task(
            f"loading {', '.join(v.spec.name for v in versions)}", total=len(versions) + 2
        )
        failed = wait(versions, lambda _: bar.advance(task), ended)
    for name, reason in failed.items():
        warn(f"{name}: {reason}")
    return failed


def _stop(stop: Callable[[], None], life: Life) -> None:
    """Drain. An error is printed; it hides no earlier error and stops no later step."""
    try:
        stop()
    except Exception as error:  # Ray's errors share no base
        life.code = life.code or 1
        err.print(
            f"headrace: the platform did not end cleanly: {type(error).__name__} "
            f"(see {log_traceback(error)})"
        )
    finally:
        life.watches = False  # from now on Ray's processes should end


def start_ray(start: Callable[[], None], tidy: Callable[[], None], *, is_ours: bool) -> None:
    """Start Ray's node, with a second try in case a busy machine was too slow; `tidy` kills what a
    failed start left.

    A cluster that is not ours is tried once, and nothing of it is killed. Raises StartFailed.
    """
    for left in (1, 0) if is_ours else (0,):
        try:
            start()
            return
        except Exception as error:  # Ray's errors share no base
            log = log_traceback(error)
            if is_ours:
                tidy()
            if not left:
                raise StartFailed(f"Ray did not start: {first_line(error)} (see {log})") from None
            warn("Ray did not start in time; trying once more")


def _servable(settings: Settings) -> list[ModelVersion]:
    """The models to serve; warns of refused ones, with file and line.

    Raises StartFailed if none is left.
    """
    versions, refused = scan(settings.models, settings.serve)
    for refusal in refused:
        warn(f"{refusal.reason}; this version is not served")
    for name in sorted(set(settings.serve) - {v.spec.name for v in versions}):
        warn(
            f'{settings.models}: expected a sound version of "{name}", found none; it is not served'
        )
    if not versions:
        raise StartFailed(
            f"{settings.models}: expected a model to serve, found none; "
            "build the zoo with: headrace models build"
        )
    return versions


def say_ready(settings: Settings, names: list[str]) -> None:
    """Print the addresses of both ports, and commands to try with the models of these names."""
    scheme = "https" if settings.gateway.tls_certificate else "http"
    url = f"{scheme}://{host_port(settings.gateway.host, settings.gateway.port)}"
    out.print("headrace ready")
    out.print(f"  data   {url}   models: {', '.join(names)}", markup=False)
    out.print(
        f"  admin  http://{host_port(settings.admin.host, settings.admin.port)}/metrics",
        markup=False,
    )
    with_key = ' (with -H "Authorization: Bearer $HEADRACE_KEY")' if settings.gateway.keys else ""
    out.print(f"try:{with_key}")
    out.print(f"  curl {url}/v2/health/ready", markup=False)
    for name, body in _EXAMPLES.items():
        if name in names:
            out.print(f"  curl {url}{body}", markup=False)


_EXAMPLES = {
    "efficientnet-lite0": "/v1/models/efficientnet-lite0:classify "
    "-H content-type:image/png --data-binary @photo.png",
    "dga-lstm": "/v1/models/dga-lstm:classify "
    """-d '{"input": ["wikipedia.org", "xkqjzvbwpt.com"]}'""",
    "mail-spam": "/v1/models/mail-spam:classify "
    """-d '{"input": "You won! Claim your prize now."}'""",
    "minilm-l6": """/v1/embeddings -d '{"model": "minilm-l6", "input": "a sentence"}'""",
}
