"""Ways to form batches, compared on a virtual clock: the real batcher and router before executors
that only wait.

    python -m loadtests.simulate --preset minilm-cpu

Loads are shares of the most that the executors could run: all batches full, nothing padded. The
highest load that a policy stands is where 99 % of all requests, those refused among them, are
answered within the preset's objective. What it leaves out: the gateway, preprocessing, and what the
batcher itself takes.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import numpy as np
import typer
from loadtests.simulation.executors import PRESETS, Preset
from loadtests.simulation.policies import Policy, Sweep, policies, sweep
from loadtests.simulation.report import draw_plots, highest_table, loads_table, shares_table
from loadtests.simulation.study import HALVINGS, Arrivals, Course, study
from loadtests.simulation.traffic import (
    Arrival,
    Shape,
    Traffic,
    TrafficError,
    at_rate,
    draw,
    read_trace,
)
from loadtests.simulation.trial import Machines
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from headrace.batching import Limits

__all__ = ["arrivals_of", "keys_of"]

LOADS = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.1)
_MAX_ROWS = Limits().max_rows
_TABLE_WIDTH = 110
# Deadlines that are not given are so many times the objective.
_DEADLINE_FACTOR = 4

console = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def keys_of(given: Sequence[str]) -> dict[str, float]:
    """Keys and their shares out of NAME=SHARE. Raises TrafficError."""
    keys: dict[str, float] = {}
    for text in given:
        name, _, share = text.partition("=")
        try:
            keys[name] = float(share)
        except ValueError:
            raise TrafficError(f"key: expected NAME=SHARE, found {text}") from None
        if not 0 < keys[name] < float("inf"):
            raise TrafficError(f"key: expected a share above 0, found {text}")
    return keys or {"": 1.0}


def arrivals_of(traffic: Traffic, preset: Preset, trace: Path | None) -> Arrivals:
    """Arrivals at a rate: drawn, or a trace that is sped up to it. Raises TrafficError."""
    if trace is None:
        return partial(draw, traffic if preset.is_ragged else replace(traffic, longest=1))
    return partial(at_rate, read_trace(trace))


def _mean_length(arrivals: Sequence[Arrival]) -> float:
    return float(np.mean([arrival.length for arrival in arrivals]))


def _chosen(names: Sequence[str], known: dict[str, Policy]) -> list[Policy]:
    if unknown := [name for name in names if name not in known]:
        raise typer.BadParameter(
            f"expected one of {', '.join(known)}, found {unknown[0]}", param_hint="--policy"
        )
    return [known[name] for name in names or known]


def _study(
    chosen: Sequence[Policy], rates: Sequence[float], arrivals: Arrivals, machines: Machines
) -> list[Course]:
    """The study under a progress bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("", total=len(chosen) * (len(rates) + HALVINGS))
        return study(
            chosen,
            rates,
            arrivals,
            machines,
            lambda name: progress.update(task, advance=1, description=name),
        )


def _show(courses: Sequence[Course], file: Path) -> None:
    console.width = max(console.width, _TABLE_WIDTH)  # cut off it says nothing
    for table in (loads_table(courses), shares_table(courses), highest_table(courses)):
        if table is not None:
            console.print(table)
            console.print()
    console.print(f"plots: {file}", markup=False)


def main(
    preset: Annotated[
        str, typer.Option(help=f"What the executors stand for: {', '.join(PRESETS)}.")
    ] = "minilm-cpu",
    policy: Annotated[
        list[str] | None, typer.Option(help="Only these; may be given several times.")
    ] = None,
    vary: Annotated[
        Sweep | None, typer.Option(help="Instead of policies, compare values of this default.")
    ] = None,
    load: Annotated[
        list[float] | None, typer.Option(min=0.01, max=10, help="Shares of what is possible.")
    ] = None,
    requests: Annotated[int, typer.Option(min=100, max=1_000_000, help="How many a run.")] = 5000,
    shape: Annotated[Shape, typer.Option(help="How they come.")] = "poisson",
    median: Annotated[int, typer.Option(min=1, max=100_000, help="Of the lengths.")] = 16,
    sigma: Annotated[
        float, typer.Option(min=0, max=5, help="How wide lengths spread: of their logarithm.")
    ] = 1.0,
    longest: Annotated[int, typer.Option(min=1, max=100_000, help="Where lengths are cut.")] = 256,
    key: Annotated[
        list[str] | None, typer.Option(help="NAME=SHARE of a key's requests; several times.")
    ] = None,
    deadline: Annotated[
        list[float] | None, typer.Option(min=0.001, help="Seconds; each as often as another.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="A CSV of arrival_s, length, owner, deadline_s instead.")
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, max=64)] = 1,
    max_rows: Annotated[int, typer.Option(min=1, max=1024, help="Of a batch.")] = _MAX_ROWS,
    timer: Annotated[
        float, typer.Option(min=0, max=10, help="Seconds until the timer seals a batch.")
    ] = 0.01,
    noise: Annotated[
        float, typer.Option(min=0, max=1, help="Of a batch's time, as a share of it.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    report: Annotated[Path, typer.Option(help="Where the plots go: .svg, .png or .pdf.")] = Path(
        "reports/simulation.svg"
    ),
) -> None:
    """Compare ways to form batches by throughput and latency, on simulated time.

    Example: python -m loadtests.simulate --preset gpu --replicas 2 --shape bursts --load 0.5 --load
    0.8

    Example: python -m loadtests.simulate --vary least-gain --preset minilm-cpu
    """
    if preset not in PRESETS:
        raise typer.BadParameter(
            f"expected one of {', '.join(PRESETS)}, found {preset}", param_hint="--preset"
        )
    what = PRESETS[preset]
    deadlines_s = tuple(deadline or [_DEADLINE_FACTOR * what.objective_s])
    limits = Limits(max_rows=max_rows)
    chosen = _chosen(policy or [], sweep(vary, limits) if vary else policies(limits, timer))
    try:
        traffic = Traffic(
            requests, shape, median, sigma, longest, keys_of(key or []), deadlines_s, seed=seed
        )
        arrivals = arrivals_of(traffic, what, trace)
    except TrafficError as error:
        _fail(str(error))
    possible = replicas * what.limit(_mean_length(arrivals(1.0)), max_rows)
    rates = [share * possible for share in load or LOADS]
    console.print(
        f"{what.what}; {replicas} replicas, at most {possible:,.0f}/s; objective "
        f"{what.objective_s:g} s"
    )
    courses = _study(chosen, rates, arrivals, Machines(what, replicas, noise, seed))
    draw_plots(courses, f"{preset}: {what.what}", what.objective_s, report)
    _show(courses, report)


def _fail(reason: str) -> NoReturn:
    err.print(f"simulate: {reason}", markup=False)
    raise typer.Exit(2)


if __name__ == "__main__":
    typer.run(main)
