"""A model asked for more than it can do: what is still answered, who suffers, and what is left of
it afterwards.

    python -m loadtests.overload

Simulated models, whose capacity is known by arithmetic, behind the real gateway, channel and
replica, each in a process of its own and without Ray. `overload`: 2, 5 and 10 times the capacity.
`fairness`: one key floods, another asks for its share. `poison`: one request of a batch makes the
model raise. `cancel`: callers leave at random moments. Exit status 1 if a mark is missed.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import orjson
import typer
from loadtests.overloading.flood import fairness, overload
from loadtests.overloading.harm import cancel, poison
from loadtests.overloading.marks import Mark
from loadtests.overloading.runs import Run, drivers
from loadtests.support.checkout import ROOT
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

__all__ = ["Measurement", "main", "show", "write_report"]

REPORTS = ROOT / "reports"
_WIDTH = 150
out = Console(soft_wrap=True, highlight=False, width=_WIDTH)
err = Console(stderr=True, soft_wrap=True, highlight=False)


class Measurement(StrEnum):
    OVERLOAD = "overload"
    FAIRNESS = "fairness"
    POISON = "poison"
    CANCEL = "cancel"


_MEASURE: Mapping[Measurement, Callable[[Run], tuple[list[Mark], object]]] = {
    Measurement.OVERLOAD: overload,
    Measurement.FAIRNESS: fairness,
    Measurement.POISON: poison,
    Measurement.CANCEL: cancel,
}


def show(found: Mapping[str, Sequence[Mark]], console: Console) -> None:
    """One table of all marks."""
    table = Table("measured", "mark", "expected", "found", "", box=None)
    for name, marks in found.items():
        for mark in marks:
            table.add_row(
                name, mark.what, mark.expected, mark.measured, "met" if mark.is_met else "MISSED"
            )
    console.print(table)


def write_report(
    path: Path, settings: object, marks: Mapping[str, Sequence[Mark]], figures: object
) -> None:
    """Marks and figures as JSON; what is not a number is null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"settings": settings, "marks": marks, "figures": figures}
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def main(
    measurements: Annotated[
        list[Measurement] | None, typer.Argument(help="Which ones; all by default.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1, max=600, help="How long each phase takes.")
    ] = 10.0,
    deadline: Annotated[
        float, typer.Option(min=0.1, max=10, help="Seconds that each request allows.")
    ] = 1.0,
    report: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")] = REPORTS
    / "overload.json",
) -> None:
    """Overload simulated models behind the real gateway, and print what became of it.

    Example: python -m loadtests.overload overload fairness --seconds 5 --deadline 0.5
    """
    marks: dict[str, list[Mark]] = {}
    figures: dict[str, object] = {}
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as progress, drivers() as pool:
        run = Run(seconds, deadline, progress, pool)
        for measurement in measurements or list(Measurement):
            marks[measurement.value], figures[measurement.value] = _MEASURE[measurement](run)
    show(marks, out)
    write_report(report, {"seconds": seconds, "deadline_s": deadline}, marks, figures)
    out.print(f"figures in {report}")
    raise typer.Exit(0 if all(mark.is_met for found in marks.values() for mark in found) else 1)


if __name__ == "__main__":
    typer.run(main)
