"""The commands. Each says what it does, shows an example, and ends with one clear line when it cannot."""

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from headrace import key_commands, model_commands
from headrace.config import Settings, own_authorization, prepare_ray, read_settings
from headrace.errors import StartFailed
from headrace.ports import check_exposure, check_ports
from headrace.terminal import err, fail, or_fail, out, progress_bar
from headrace_models.repository import ModelVersion, scan

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Serve models behind one gateway.")
app.add_typer(model_commands.app, name="models")
app.add_typer(key_commands.app, name="keys")


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option(help="Settings; headrace.toml here if it exists.")] = None,
    models: Annotated[Path | None, typer.Option(help="The model repository's folder.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Serve only this model; may be repeated.")] = None,
    host: Annotated[str | None, typer.Option(help="Address of the data port.")] = None,
    port: Annotated[int | None, typer.Option(help="The data port.")] = None,
    admin_host: Annotated[str | None, typer.Option(help="Address of the admin port.")] = None,
    admin_port: Annotated[int | None, typer.Option(help="The admin port.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Face a network without keys or TLS.")] = False,
) -> None:
    """Serve the models of a repository until SIGTERM or Ctrl-C; then answer what is in flight and end.

    Example: headrace serve --model efficientnet-lite0 --port 8000
    """
    settings = or_fail(lambda: read_settings(config))
    gateway = settings.gateway.model_copy(update=_given(host=host, port=port, insecure=insecure or None))
    admin = settings.admin.model_copy(update=_given(host=admin_host, port=admin_port))
    names = tuple(model) if model else settings.serve
    changes = {"gateway": gateway, "admin": admin, "serve": names, **_given(models=models)}
    or_fail(lambda: _serve(settings.model_copy(update=changes)))


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _serve(settings: Settings) -> None:
    check_ports(settings)
    if warning := check_exposure(settings):
        err.print(f"headrace: {warning}", markup=False)
    versions = _servable(settings)
    run = prepare_ray()
    ended = threading.Event()
    _end_on_signals(ended)
    from headrace import app as platform
    from headrace.operation.lanes import FleetMembers, operating
    from headrace.operation.operator import Operator

    names = [v.spec.name for v in versions]
    with progress_bar() as bar:
        task = bar.add_task("starting Ray", total=len(names) + 3)
        platform.start_ray(run)
        _end_on_signals(ended)  # once more: Ray put handlers of its own in their place, which abort
        bar.update(task, advance=1, description=f"loading {', '.join(names)}")
        try:
            applications = platform.deploy(settings, versions, ended)
            failed = platform.wait_until_ready(versions, lambda _: bar.advance(task), ended)
        except BaseException:
            platform.stop()
            raise
    for name, reason in failed.items():
        err.print(f"headrace: {name}: {reason}", markup=False)
    try:
        operator = Operator(settings.models, applications, FleetMembers(), versions, failed)
        with operating(operator, ended):
            if not ended.is_set():
                platform.wait_for_gateway(settings, ended)
                _say_ready(settings, operator.models)
            ended.wait()
    finally:
        err.print("headrace: draining")
        platform.stop()


def _end_on_signals(ended: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())


def _servable(settings: Settings) -> list[ModelVersion]:
    """The models to serve; those that are refused are named with file and line. Raises StartFailed if none is left."""
    versions, refused = scan(settings.models, settings.serve)
    for refusal in refused:
        err.print(f"headrace: refused {refusal.reason}", markup=False)
    for name in sorted(set(settings.serve) - {v.spec.name for v in versions}):
        err.print(f'headrace: no sound version of "{name}" in {settings.models}', markup=False)
    if not versions:
        raise StartFailed(f"no model to serve in {settings.models}; build the zoo with: headrace models build")
    return versions


def _say_ready(settings: Settings, names: list[str]) -> None:
    scheme = "https" if settings.gateway.tls_certificate else "http"
    url = f"{scheme}://{settings.gateway.host}:{settings.gateway.port}"
    out.print("headrace ready")
    out.print(f"  data   {url}   models: {', '.join(names)}")
    out.print(f"  admin  http://{settings.admin.host}:{settings.admin.port}/metrics")
    out.print("try:" + (' (with -H "Authorization: Bearer $HEADRACE_KEY")' if settings.gateway.keys else ""))
    out.print(f"  curl {url}/v2/health/ready")
    for name, body in _EXAMPLES.items():
        if name in names:
            out.print(f"  curl {url}{body}", markup=False)
    sys.stdout.flush()


_EXAMPLES = {
    "efficientnet-lite0": "/v1/models/efficientnet-lite0:classify -H content-type:image/png --data-binary @photo.png",
    "dga-lstm": """/v1/models/dga-lstm:classify -d '{"input": ["wikipedia.org", "xkqjzvbwpt.com"]}'""",
    "mail-spam": """/v1/models/mail-spam:classify -d '{"input": "You won! Claim your prize now."}'""",
    "minilm-l6": """/v1/embeddings -d '{"model": "minilm-l6", "input": "a sentence"}'""",
}


@app.command()
def loadtest(
    users: Annotated[int, typer.Option(min=1, help="How many users at a time.")] = 32,
    duration: Annotated[float, typer.Option(min=1, help="For how many seconds.")] = 30.0,
    url: Annotated[str, typer.Option(help="The data port.")] = "http://127.0.0.1:8000",
    config: Annotated[Path | None, typer.Option(help="Settings with [objectives]; headrace.toml here if any.")] = None,
    report_dir: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("reports"),
) -> None:
    """Run the release gate: users against a running platform; exit 1 if an objective is missed. A report either way.

    Example: headrace loadtest --users 32 --duration 30
    """
    from headrace.loadtest.gate import run, show

    settings = or_fail(lambda: read_settings(config))
    # Who names a file means every model in it; headrace.toml here may have objectives for more than is served today.
    needs_all = config is not None
    outcome = or_fail(
        lambda: run(url, users, duration, settings.objectives, settings.models, report_dir, needs_all=needs_all)
    )
    show(outcome, out)
    if not outcome.ok:
        raise SystemExit(1)


@app.command()
def status(admin: Annotated[str, typer.Option(help="The admin port.")] = "127.0.0.1:8001") -> None:
    """Show which models are served, by which processes, and what is missing or in trouble; exit 1 if anything is.

    Example: headrace status
    """
    from headrace.admin.client import read_health

    health = or_fail(lambda: read_health(admin, own_authorization()))
    table = Table("model", "version", "backend", "replica", "node", box=None)
    for replica in health["replicas"]:
        cells = (replica[key] for key in ("model", "version", "backend", "id", "node"))
        table.add_row(*cells)
    out.print(table)
    for trouble in health["troubles"]:
        out.print(f"in trouble: {trouble['model']} {trouble['version']}: {trouble['reason']}", markup=False)
    if health["missing"]:
        fail(StartFailed(f"no replica serves: {', '.join(health['missing'])}"))
    if health["troubles"]:
        raise SystemExit(1)
