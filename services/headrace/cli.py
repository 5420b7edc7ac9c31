"""The commands. Each says what it does, shows an example, and ends with one clear line when it cannot."""

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
        Path | None, typer.Option(help="Settings; headrace.toml here if it exists.")
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
    """Serve the models of a repository until SIGTERM or Ctrl-C; then answer what is in flight and end.

    A second one, a second later or more, ends at once. Exit code 75: Ray's node was lost, start it again.

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
    users: Annotated[int, typer.Option(min=1, help="How many users at a time.")] = 32,
    duration: Annotated[float, typer.Option(min=1, help="For how many seconds.")] = 30.0,
    url: Annotated[str, typer.Option(help="The data port.")] = "http://127.0.0.1:8000",
    config: Annotated[
        Path | None, typer.Option(help="Settings with [objectives]; headrace.toml here if any.")
    ] = None,
    report_dir: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("reports"),
) -> None:
    """Run the release gate: users against a running platform; exit 1 if an objective is missed. A report either way.

    Example: headrace loadtest --users 32 --duration 30
    """
    from headrace.loadtest.gate import run, show

    settings = read_settings(config)
    # Who names a file means every model in it; headrace.toml here may have objectives for more than is served today.
    needs_all = config is not None
    outcome = run(
        url, users, duration, settings.objectives, settings.models, report_dir, needs_all=needs_all
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

    health = read_health(admin, own_authorization())
    table = Table("model", "version", "backend", "replica", "node", box=None)
    for replica in health["replicas"]:
        cells = (replica[key] for key in ("model", "version", "backend", "id", "node"))
        table.add_row(*cells)
    out.print(table)
    for trouble in health["troubles"]:
        out.print(
            f"in trouble: {trouble['model']} {trouble['version']}: {trouble['reason']}",
            markup=False,
        )
    if health["missing"]:
        fail(f"no replica serves: {', '.join(health['missing'])}")
    if health["troubles"]:
        raise SystemExit(1)
