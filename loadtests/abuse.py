"""A gateway under abuse: what other callers notice of it, and what it costs.

    python -m loadtests.abuse

A gateway and real models, each in a process of its own and without Ray, are held by slow sockets,
flooded with connects, and sent what takes long to read. Each row says what was expected and what
was found; what other callers notice is measured with and without the abuse alternately. Exit status
1 if an expectation is missed.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Annotated

import typer
import uvloop
from loadtests.attacks.bodies import Attack, attacks
from loadtests.attacks.sockets import flood, slow_sockets
from loadtests.attacks.vitals import (
    Pinger,
    lag_bound_s,
    peak_growth_bytes,
    pinging,
    resident_bytes,
)
from loadtests.inputs import requests_for
from loadtests.open_loop import Figures, figures, fixed_schedule, measure
from loadtests.support.proc import open_files
from loadtests.support.process_platform import ProcessPlatform, built_replicas, process_platform
from loadtests.support.raw_http import call
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from headrace.edge.limits import EdgeLimits

__all__ = ["Row", "compare", "is_within"]

SLOW, FLOOD = 500, 10_000
MAX_CONNECTIONS = EdgeLimits().max_connections
MAX_SLOWED, MAX_FLOODED = 1.10, 2.0
MAX_LAG_S = 0.05
MAX_GROWTH_BYTES = 400 << 20
SHORT = EdgeLimits(head_timeout_s=4.0, body_timeout_s=5.0)
_AFTER_DEADLINES_S = 6.0
_MODEL = "dga-lstm"
_MODELS = ("dga-lstm", "efficientnet-lite0", "minilm-l6")
_DEADLINE_S = 5.0
_POLL_S = 0.02
# Once the flood holds every connection, no caller can open one; so few requests need no new one.
_FLOOD_SHARE = 3
# Connections that were accepted and are not cut yet; and until the last of them is.
_IN_PASSING, _SETTLE_S = 64, 1.0

_WIDTH = 170
out = Console(soft_wrap=True, highlight=False, width=_WIDTH)
err = Console(stderr=True, soft_wrap=True, highlight=False)


@dataclass(frozen=True)
class Row:
    """A line of the first table."""

    what: str
    expected: str
    measured: str
    is_met: bool


@dataclass
class Hurt:
    """The effects of an attack, per time it was made: codes answered, times, memory, lags."""

    attack: str
    codes: tuple[str, ...]
    found: list[str] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    gateway_bytes: list[int] = field(default_factory=list)
    replica_bytes: list[int] = field(default_factory=list)
    lag_s: list[float] = field(default_factory=list)
    machine_s: list[float] = field(default_factory=list)
    metric_s: list[float] = field(default_factory=list)


def is_within(hurt: Hurt) -> bool:
    """True if it was answered as it should be and did not block the loop.

    What an input does it does each time, so the least of the lags is what is held against it: on a
    shared machine the others show who else was let run.
    """
    is_right = set(hurt.found) <= set(hurt.codes)
    return is_right and min(hurt.lag_s) <= MAX_LAG_S and min(hurt.gateway_bytes) <= MAX_GROWTH_BYTES


def compare(without: list[Figures], with_it: list[Figures], most: float, what: str) -> Row:
    """The least p99 with the abuse over the least without it, of runs that were taken alternately.

    Who else is let run on a shared machine only adds to it, and the abuse does what it does each
    time.
    """
    all_p99 = [[f.p99_s * 1e3 for f in runs] for runs in (without, with_it)]
    before, after = (
        f"{min(p99):.1f} (median {median(p99):.1f}, most {max(p99):.0f})" for p99 in all_p99
    )
    p50 = [median(f.percentiles_s[0] for f in runs) * 1e3 for runs in (without, with_it)]
    ratio = min(all_p99[1]) / min(all_p99[0])
    lost = sum(f.scheduled - f.counts["right"] for f in with_it)
    measured = (
        f"{ratio:.2f}x: p99 {before} -> {after} ms; "
        f"p50 {p50[0]:.1f} -> {p50[1]:.1f} ms, median; {lost} not right"
    )
    return Row(what, f"p99 at most {most:g}x, all right", measured, ratio <= most and not lost)


@dataclass(frozen=True)
class Run:
    """Settings that all measurements share."""

    seconds: float
    rate: float
    rounds: int
    progress: Progress

    def good_callers(self, at: ProcessPlatform) -> Figures:
        schedule = fixed_schedule(self.rate, self.seconds)
        return figures(
            uvloop.run(measure(at.url, requests_for(_MODEL), schedule, _DEADLINE_S)), self.seconds
        )

    def by_turns(
        self, at: ProcessPlatform, abuse: Callable[[], AbstractContextManager[None]], task: TaskID
    ) -> tuple[list[Figures], list[Figures]]:
        found: tuple[list[Figures], list[Figures]] = ([], [])
        self.good_callers(at)
        for _ in range(self.rounds):
            for runs, make in zip(found, (nullcontext, abuse), strict=True):
                with make():
                    runs.append(self.good_callers(at))
                self.progress.advance(task)
        return found


def beside_slow_sockets(run: Run) -> Iterator[Row]:
    task = run.progress.add_task(f"{SLOW} slow sockets", total=2 * run.rounds + 1)
    with process_platform(built_replicas([_MODEL])) as at:
        found = run.by_turns(at, lambda: slow_sockets(at.port, SLOW, is_stubborn=True), task)
    yield compare(*found, MAX_SLOWED, f"{SLOW} slow sockets")
    with process_platform(built_replicas([_MODEL]), SHORT) as at:
        before = open_files(at.gateway)
        with slow_sockets(at.port, SLOW, is_stubborn=False):
            held = open_files(at.gateway) - before
            time.sleep(_AFTER_DEADLINES_S)
            left = open_files(at.gateway) - before
    run.progress.advance(task)
    yield Row(
        "their files",
        "all closed after their deadlines",
        f"{held} open, then {left}",
        left <= 0 < held,
    )


def beside_a_flood(run: Run) -> Iterator[Row]:
    task = run.progress.add_task(f"{FLOOD:,} connects", total=2 * run.rounds + 1)
    run = replace(run, rate=run.rate / _FLOOD_SHARE)
    with process_platform(built_replicas([_MODEL])) as at:
        yield compare(
            *run.by_turns(at, lambda: flood(at.port, FLOOD, run.seconds), task),
            MAX_FLOODED,
            "a flood",
        )
        before, most = open_files(at.gateway), 0
        with flood(at.port, FLOOD, run.seconds):
            until_s = time.monotonic() + run.seconds + _SETTLE_S
            while time.monotonic() < until_s:
                most = max(most, held := open_files(at.gateway) - before)
                time.sleep(_POLL_S)
    run.progress.advance(task)
    is_capped = 0 < held <= MAX_CONNECTIONS and most <= MAX_CONNECTIONS + _IN_PASSING
    expected = f"at most {MAX_CONNECTIONS:,} kept, {_IN_PASSING} more for a moment"
    yield Row(f"{FLOOD:,} connects", expected, f"{held:,} kept, {most:,} at most", is_capped)


def under_attack(run: Run) -> list[Hurt]:
    listed = {attack.name: Hurt(attack.name, attack.codes) for attack in attacks()}
    task = run.progress.add_task("hostile bodies", total=run.rounds * len(listed))
    with process_platform(built_replicas(_MODELS)) as at, pinging(at.port) as pinger:
        seen: dict[float, float] = {}
        for _ in range(run.rounds):
            for attack in attacks():
                run.progress.update(task, description=attack.name)
                _strike(at, pinger, attack, listed[attack.name], seen)
                run.progress.advance(task)
    run.progress.update(task, description="hostile bodies")
    return list(listed.values())


def _strike(
    at: ProcessPlatform, pinger: Pinger, attack: Attack, hurt: Hurt, seen: dict[float, float]
) -> None:
    held = resident_bytes(at.processes)
    lag_bound_s(at, seen)
    pinger.worst_s()
    began_s = time.monotonic()
    code = _told(at, attack)
    hurt.took_s.append(time.monotonic() - began_s)
    time.sleep(_POLL_S)
    lag_s, machine_s = pinger.worst_s()
    hurt.lag_s.append(lag_s)
    hurt.machine_s.append(machine_s)
    hurt.metric_s.append(lag_bound_s(at, seen))
    gateway, *replicas = peak_growth_bytes(at.processes, held)
    hurt.gateway_bytes.append(gateway)
    hurt.replica_bytes.append(max(replicas))
    hurt.found.append(code)


def _told(at: ProcessPlatform, attack: Attack) -> str:
    """An error's code, nothing for a right answer."""
    try:
        answer = call(at.port, attack.sent)
    except TimeoutError:
        return "no answer"
    if answer.status < 400:
        return "" if answer.status else "no answer"
    return answer.code


def show_rows(rows: list[Row]) -> None:
    table = Table("beside", "expected", "measured", "", box=None)
    for row in rows:
        table.add_row(row.what, row.expected, row.measured, "met" if row.is_met else "MISSED")
    out.print(table)


def show_hurts(hurts: list[Hurt], rounds: int) -> None:
    table = Table("sent", "expected", "answered", box=None)
    for heading in ("took", "gateway", "replica", "lag: median", "least", "machine", "metric", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for hurt in hurts:
        told = [
            " or ".join(code or "200" for code in codes)
            for codes in (hurt.codes, sorted(set(hurt.found)))
        ]
        grown = (
            f"+{median(values) / (1 << 20):.0f} MiB"
            for values in (hurt.gateway_bytes, hurt.replica_bytes)
        )
        lags = (median(hurt.lag_s), min(hurt.lag_s), median(hurt.machine_s))
        times = (f"{seconds * 1e3:.0f} ms" for seconds in (median(hurt.took_s), *lags))
        took, *late = times
        metric = f"<= {min(hurt.metric_s) * 1e3:g} ms"
        table.add_row(
            hurt.attack, *told, took, *grown, *late, metric, "met" if is_within(hurt) else "MISSED"
        )
    out.print(table)
    out.print(
        f"Each {rounds} times. lag: the longest that a ping every 2 ms waited; machine: how "
        "late the pinger woke."
    )
    out.print(
        "metric: the bucket of the worst lag that the gateway counted, least of all times; "
        "memory at its peak."
    )


def main(
    seconds: Annotated[
        float, typer.Option(min=1, max=60, help="How long good callers ask each time.")
    ] = 4.0,
    rate: Annotated[float, typer.Option(min=1, help="Their requests a second.")] = 150.0,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="How often each is repeated.")] = 5,
    only: Annotated[str, typer.Option(help="One part: slow, flood or bodies.")] = "",
) -> None:
    """Abuse a gateway and print what that does to it and to other callers.

    Example: python -m loadtests.abuse --seconds 3 --rounds 2 --only bodies
    """
    rows: list[Row] = []
    hurts: list[Hurt] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as progress:
        run = Run(seconds, rate, rounds, progress)
        if only in ("", "slow"):
            rows += beside_slow_sockets(run)
        if only in ("", "flood"):
            rows += beside_a_flood(run)
        if only in ("", "bodies"):
            hurts = under_attack(run)
    if rows:
        show_rows(rows)
    if hurts:
        show_hurts(hurts, rounds)
    raise typer.Exit(0 if all(row.is_met for row in rows) and all(map(is_within, hurts)) else 1)


if __name__ == "__main__":
    typer.run(main)
