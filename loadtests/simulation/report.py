"""The results of a study, as a table and as plots."""

from collections.abc import Callable, Sequence
from pathlib import Path

from loadtests.simulation.study import Course
from loadtests.simulation.trial import Trial
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

__all__ = ["draw_plots", "highest_table", "loads_table", "shares_table"]

_NONE = "-"


def loads_table(courses: Sequence[Course]) -> Table:
    """Each policy at each load."""
    table = Table("policy", box=None)
    for heading in (
        "offered/s",
        "answers/s",
        "in time/s",
        "p50",
        "p99",
        "refused",
        "rows a batch",
        "padding",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for course in courses:
        for t in course.trials:
            rates = (f"{t.offered:,.0f}", f"{t.throughput:,.0f}", f"{t.goodput:,.0f}")
            table.add_row(
                course.policy.name,
                *rates,
                _milliseconds(t.p50_s),
                _milliseconds(t.p99_s),
                f"{t.refused:.1%}",
                f"{t.mean_rows:.1f}",
                f"{t.padding:.0%}",
            )
    return table


def highest_table(courses: Sequence[Course]) -> Table:
    """The highest load that each policy stands beside the first one's, with figures there."""
    table = Table("policy", box=None)
    for heading in ("highest load/s", "to the first", "p50", "p99", "rows a batch", "padding"):
        table.add_column(heading, justify="right", no_wrap=True)
    first = courses[0].highest
    for course in courses:
        t = course.highest
        if t is None:
            table.add_row(course.policy.name, *[_NONE] * 6)
            continue
        ratio = f"{t.offered / first.offered:.2f}x" if first else _NONE
        times = (_milliseconds(t.p50_s), _milliseconds(t.p99_s))
        table.add_row(
            course.policy.name,
            f"{t.offered:,.0f}",
            ratio,
            *times,
            f"{t.mean_rows:.1f}",
            f"{t.padding:.0%}",
        )
    return table


def shares_table(courses: Sequence[Course]) -> Table | None:
    """Shares answered in time by key and by deadline; None if there is one of each."""
    some = courses[0].trials[0]
    if len(some.in_time_by_key) < 2 and len(some.in_time_by_deadline) < 2:
        return None
    keys = [f"key {key or _NONE}" for key in some.in_time_by_key]
    deadlines = [f"within {deadline_s:g} s" for deadline_s in some.in_time_by_deadline]
    table = Table("policy", box=None)
    for heading in ("offered/s", *keys, *deadlines):
        table.add_column(heading, justify="right", no_wrap=True)
    for course in courses:
        for t in course.trials:
            shares = (*t.in_time_by_key.values(), *t.in_time_by_deadline.values())
            table.add_row(
                course.policy.name, f"{t.offered:,.0f}", *(f"{share:.1%}" for share in shares)
            )
    return table


def draw_plots(courses: Sequence[Course], title: str, objective_s: float, file: Path) -> None:
    """Four plots in one file; its ending says in which format."""
    figure = Figure(figsize=(12, 9), layout="constrained")
    figure.suptitle(title)
    (against, latency), (padding, goodput) = figure.subplots(2, 2)
    _lines(
        against, courses, lambda t: t.throughput, lambda t: t.p99_s * 1e3, "answers/s", "p99, ms"
    )
    _lines(latency, courses, _offered, lambda t: t.p99_s * 1e3, "offered/s", "p99, ms")
    _lines(
        padding, courses, _offered, lambda t: t.padding * 100, "offered/s", "padding, % of cells"
    )
    _lines(goodput, courses, _offered, lambda t: t.goodput, "offered/s", "answers in time/s")
    for axes in (against, latency):
        axes.set_yscale("log")
        axes.axhline(objective_s * 1e3, color="gray", linestyle="--", label="objective")
    against.legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)


def _lines(
    axes: Axes,
    courses: Sequence[Course],
    x: Callable[[Trial], float],
    y: Callable[[Trial], float],
    x_label: str,
    y_label: str,
) -> None:
    for course in courses:
        axes.plot(
            [x(t) for t in course.trials],
            [y(t) for t in course.trials],
            marker="o",
            label=course.policy.name,
        )
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)


def _offered(trial: Trial) -> float:
    return trial.offered


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds * 1e3:,.0f} ms"
