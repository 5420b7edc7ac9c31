"""The batcher after noise, neighbours and changing regimes, beside the best fixed size by
hindsight.

    python -m loadtests.histories --seeds 100

The real batcher, on a virtual clock, before executors that only take time: 64 callers, three spells
of noise, then quiet; after a second of grace it is judged. `loadtests/simulation/histories.py` has
the spells and the costs.
"""

from concurrent.futures import ProcessPoolExecutor
from statistics import mean, median
from typing import Annotated

import typer
from loadtests.simulation.histories import COSTS, HISTORIES, Outcome, best_fixed, judge
from rich.console import Console
from rich.progress import track
from rich.table import Table

_WIDTH = 130

console = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, highlight=False)


def _judge(cost: str, history: str, seed: int) -> Outcome:
    return judge(COSTS[cost], HISTORIES[history], seed)


def _known(given: list[str], known: list[str], option: str) -> list[str]:
    if unknown := [name for name in given if name not in known]:
        raise typer.BadParameter(
            f"expected one of {'; '.join(known)}, found {unknown[0]}", param_hint=option
        )
    return given or known


def main(
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="Trials of each cost and history.")
    ] = 10,
    cost: Annotated[list[str] | None, typer.Option(help=f"Only these: {'; '.join(COSTS)}.")] = None,
    history: Annotated[
        list[str] | None, typer.Option(help=f"Only these: {'; '.join(HISTORIES)}.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=64, help="How many trials at a time.")] = 1,
) -> None:
    """Judge how batches are formed after each history, as a share of the best fixed size by
    hindsight.

    Example: python -m loadtests.histories --seeds 100 --history "harsh neighbour" --cost "1 ms a
    row"
    """
    costs = _known(cost or [], list(COSTS), "--cost")
    histories = _known(history or [], list(HISTORIES), "--history")
    table = Table("cost of a batch", "best fixed size", "history", box=None)
    for heading in ("share of it: worst", "median", "rows a batch"):
        table.add_column(heading, justify="right")
    with ProcessPoolExecutor(processes) as pool:
        for name in track(costs, "histories", console=err, transient=True):
            size, best = best_fixed(COSTS[name])
            for n, past in enumerate(histories):
                found = list(pool.map(_judge, [name] * seeds, [past] * seeds, range(seeds)))
                shares = [outcome.rate / best for outcome in found]
                first = (name, f"{size}: {best:,.0f} rows/s") if n == 0 else ("", "")
                figures = (
                    f"{min(shares):.3f}",
                    f"{median(shares):.3f}",
                    f"{mean(o.mean_rows for o in found):.1f}",
                )
                table.add_row(*first, past, *figures)
    console.width = max(console.width, _WIDTH)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
