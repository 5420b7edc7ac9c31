"""The commands. Each has a help text with an example, and fails with one clear line."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from headrace.admin.settings import AdminSettings
from headrace.commands import keys as key_commands
from headrace.commands import models as model_commands
from headrace.commands import serve as serve_command
from headrace.commands.terminal import Commands, fail, out
from headrace.config import Settings, own_authorization, read_settings, with_options
from headrace.gateway.settings import GatewaySettings

__all__ = ["app"]

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    help="Serve models behind one gateway.",
)
app.add_typer(model_commands.app, name="models")
app.add_typer(key_commands.app, name="keys")


@app.command()
def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            help="The settings file; default: headrace.toml in this folder, if it exists."
        ),
    ] = None,
    models: Annotated[Path | None, typer.Option(help=Settings.description_of("models"))] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Serve only this model; may be repeated.")
    ] = None,
    host: Annotated[str | None, typer.Option(help=GatewaySettings.description_of("host"))] = None,
    port: Annotated[int | None, typer.Option(help=GatewaySettings.description_of("port"))] = None,
    admin_host: Annotated[
        str | None, typer.Option(help=AdminSettings.description_of("host"))
    ] = None,
    admin_port: Annotated[
        int | None, typer.Option(help=AdminSettings.description_of("port"))
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help=GatewaySettings.description_of("insecure"))
    ] = False,
) -> None:
    """Serve a repository's models until SIGTERM or Ctrl-C; then finish what is in flight and exit.

    A second signal, a second later or more, exits at once.

    Exit code 75: Ray's node was lost; start again.

    Example: headrace serve --model efficientnet-lite0 --port 8000
    """
    options = {
        ("models",): models,
        ("serve",): tuple(model) if model else None,
        ("gateway", "host"): host,
        ("gateway", "port"): port,
        ("gateway", "insecure"): insecure or None,
        ("admin", "host"): admin_host,
        ("admin", "port"): admin_port,
    }
    if code := serve_command.serve(with_options(read_settings(config), options)):
        raise SystemExit(code)


@app.command()
def loadtest(
    users: Annotated[int, typer.Option(min=1, help="Number of concurrent users.")] = 32,
    duration: Annotated[float, typer.Option(min=1, help="Seconds to run.")] = 30.0,
    url: Annotated[str, typer.Option(help="URL of the data port.")] = "http://127.0.0.1:8000",
    config: Annotated[
        Path | None,
        typer.Option(
            help="The settings file with \\[objectives]; default: headrace.toml in this folder."
        ),
    ] = None,
    report_dir: Annotated[Path, typer.Option(help="The report's folder.")] = Path("reports"),
) -> None:
    """Run the release gate: users against a running platform.

    Always writes a report; exit 1 if an objective is missed.

    Example: headrace loadtest --users 32 --duration 30
    """
    # Here, so that the other commands start without it.
    from headrace.loadtest.gate import run, show

    settings = read_settings(config)
    # A file that is named means every model in it; the default may have objectives for more than is
    # served.
    needs_all = config is not None
    verdict = run(
        url, users, duration, settings.objectives, settings.models, report_dir, needs_all=needs_all
    )
    show(verdict, out)
    if not verdict.ok:
        raise SystemExit(1)


@app.command()
def status(
    admin: Annotated[str, typer.Option(help="Address of the admin port.")] = "127.0.0.1:8001",
) -> None:
    """Show the served models and their processes; exit 1 if a model is missing or in trouble.

    Example: headrace status
    """
    # Here, so that the other commands start without it.
    from headrace.admin.client import read_health

    health = read_health(admin, own_authorization())
    table = Table("model", "version", "backend", "replica", "node", box=None)
    for replica in health["replicas"]:
        cells = (replica[key] for key in ("model", "version", "backend", "id", "node"))
        table.add_row(*cells)
    out.print(table)
    for trouble in health["troubles"]:
        out.print(
            f"{trouble['model']} {trouble['version']} is in trouble: {trouble['reason']}",
            markup=False,
        )
    if health["missing"]:
        fail(f"models without a replica: {', '.join(health['missing'])}")
    if health["troubles"]:
        raise SystemExit(1)
