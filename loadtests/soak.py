"""Half an hour of everything at once: good requests, malformed ones and callers who leave; and what
it leaves behind.

    python -m loadtests.soak --url http://127.0.0.1:8000 --admin 127.0.0.1:8001

Against a platform that runs on this machine. Requests leave on schedule, whatever becomes of
earlier ones. Memory, open files and threads of every process are sampled all the while. Exit status
1 if an answer is wrong, if one is of status 500, or if a process grows.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Annotated
from urllib.parse import urlsplit

import typer
import uvloop
from loadtests.inputs import MODELS, is_served
from loadtests.open_loop import poisson_schedule
from loadtests.overload import show, write_report
from loadtests.overloading.marks import Mark
from loadtests.soaking.processes import Census, Process, faults_inside
from loadtests.soaking.traffic import Kind, Outcome, Traffic, good_requests
from loadtests.soaking.trend import rise, slope
from loadtests.support.checkout import ROOT
from loadtests.support.http_client import HttpClient
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from headrace_models.errors import ModelError

__all__ = ["Tally", "growth_marks", "traffic_marks"]

MAX_SLOPE_MIB = 0.5  # a minute
MAX_MORE_FILES, MAX_MORE_THREADS = 8, 4
WARM_UP_S = 300.0
_DEADLINE_S, _GRACE_S = 30.0, 5.0
_SAMPLE_S = 5.0
_CALLERS = 32
# What a killed replica may cost those who asked it.
_OF_A_KILL = (503, 504)
_SHOWN = 20
_WIDTH = 150

out = Console(soft_wrap=True, highlight=False, width=_WIDTH)
err = Console(stderr=True, soft_wrap=True, highlight=False)


@dataclass
class Tally:
    """A count of outcomes. `surprises` are unexpected ones, by kind, request and status."""

    by_status: Counter[tuple[Kind, int]] = field(default_factory=Counter)
    surprises: Counter[tuple[Kind, str, int]] = field(default_factory=Counter)
    wrong: int = 0

    def enter(self, outcome: Outcome) -> None:
        self.by_status[outcome.kind, outcome.status] += 1
        self.wrong += outcome.is_wrong
        if not outcome.is_expected:
            self.surprises[outcome.kind, outcome.what, outcome.status] += 1

    def unexpected(self, kind: Kind, excused: Sequence[int]) -> int:
        return sum(
            n
            for (of, _, status), n in self.surprises.items()
            if of == kind and status not in excused
        )

    def answered(self, status: int) -> int:
        return sum(n for (_, found), n in self.by_status.items() if found == status)


def traffic_marks(tally: Tally, faults: int, kills: int) -> list[Mark]:
    """Marks on what callers saw; `faults` are errors of status 500 by the platform's own count."""
    excused = _OF_A_KILL if kills else ()
    marks = []
    kinds: tuple[tuple[Kind, str], ...] = (
        (
            "good",
            "each answered right"
            if not kills
            else "each answered right, or 503 or 504 as replicas are killed",
        ),
        ("malformed", "each answered as the catalogue says"),
        ("disconnect", "each connected"),
    )
    for kind, expected in kinds:
        statuses = {status: n for (of, status), n in sorted(tally.by_status.items()) if of == kind}
        failed = tally.unexpected(kind, excused)
        marks.append(
            Mark(
                kind, expected, f"{failed} of {sum(statuses.values())} not: {statuses}", not failed
            )
        )
    marks.append(Mark("wrong answers", "0", str(tally.wrong), not tally.wrong))
    seen = tally.answered(500)
    measured = f"{seen} seen, {faults} counted by the platform"
    marks.append(Mark("status 500", "0", measured, not seen and not faults))
    return marks


def growth_marks(processes: Sequence[Process], warm_up_s: float, until_s: float) -> list[Mark]:
    """Marks on what each process gained after its first `warm_up_s`; young ones are left out."""
    marks = []
    for process in processes:
        counting = process.warmed_up(warm_up_s)
        if not counting or counting[-1].at_s - counting[0].at_s < (until_s - warm_up_s) / 2:
            continue
        name = f"{process.name} ({process.pid})"
        memory = [s.rss_bytes >> 20 for s in (counting[0], counting[-1])]
        grows = slope(process.memory_mib(warm_up_s))
        measured = f"{grows:+.2f} MiB/min, {memory[0]} -> {memory[1]} MiB"
        marks.append(
            Mark(name, f"memory: < {MAX_SLOPE_MIB:g} MiB/min", measured, grows < MAX_SLOPE_MIB)
        )
        for what, most in (("files", MAX_MORE_FILES), ("threads", MAX_MORE_THREADS)):
            counted = [(s.at_s, float(getattr(s, what))) for s in counting]
            values = [int(value) for _, value in counted]
            measured = f"first {values[0]}, last {values[-1]}, most {max(values)}"
            marks.append(
                Mark(name, f"{what}: at most {most} more", measured, rise(counted) <= most)
            )
    return marks


@dataclass(frozen=True)
class Run:
    """One soak: `kill_every_s` ends one replica after another, none if it is 0."""

    url: str
    admin: str
    seconds: float
    rate: float
    kill_every_s: float
    seed: int

    async def soak(self, tally: Tally, census: Census, told: Callable[[], None]) -> int:
        """Send everything, and return how many replicas were killed."""
        address = urlsplit(self.url)
        assert address.hostname, self.url
        requests = good_requests([name for name in MODELS if is_served(self.url, name)])
        kills = count()
        with ThreadPoolExecutor(_CALLERS, thread_name_prefix="caller") as callers:
            async with HttpClient(self.url, _DEADLINE_S, _DEADLINE_S + _GRACE_S) as client:
                traffic = Traffic(
                    client, (address.hostname, address.port or 80), requests, callers, self.seed
                )
                began_s = monotonic()
                beside = [asyncio.create_task(self._sample(census, began_s))]
                if self.kill_every_s:
                    beside.append(asyncio.create_task(self._kill(census, kills)))
                try:
                    await self._send(traffic, tally, began_s, told)
                finally:
                    for each in beside:
                        each.cancel()
                    await asyncio.gather(*beside, return_exceptions=True)
        return next(kills)

    async def _send(
        self, traffic: Traffic, tally: Tally, began_s: float, told: Callable[[], None]
    ) -> None:
        async def one(request: Callable[[], Awaitable[Outcome]]) -> None:
            tally.enter(await request())
            told()

        async with asyncio.TaskGroup() as group:
            for due_s in poisson_schedule(self.rate, self.seconds, self.seed):
                await asyncio.sleep(max(0.0, began_s + due_s - monotonic()))
                group.create_task(one(traffic.next()))

    async def _sample(self, census: Census, began_s: float) -> None:
        while True:
            with suppress(OSError):  # the admin port may be replaced, too; a gap harms no slope
                await asyncio.to_thread(census.look, monotonic() - began_s)
            await asyncio.sleep(_SAMPLE_S)

    async def _kill(self, census: Census, kills: Iterator[int]) -> None:
        while True:
            await asyncio.sleep(self.kill_every_s)
            with suppress(OSError):
                replicas = await asyncio.to_thread(census.replicas)
                os.kill(replicas[next(kills) % len(replicas)], signal.SIGKILL)


def main(
    seconds: Annotated[float, typer.Option(min=10, max=86_400, help="How long.")] = 1800.0,
    rate: Annotated[
        float, typer.Option(min=1, max=1000, help="Requests a second, of all kinds together.")
    ] = 30.0,
    kill_every: Annotated[
        float, typer.Option(min=0, help="Kill a replica each so many seconds; 0: none.")
    ] = 0.0,
    warm_up: Annotated[
        float, typer.Option(min=0, help="Seconds of each process that are not judged.")
    ] = WARM_UP_S,
    seed: Annotated[int, typer.Option(help="Of what is sent, and when.")] = 0,
    url: Annotated[str, typer.Option(help="The data port.")] = "http://127.0.0.1:8000",
    admin: Annotated[str, typer.Option(help="The admin port.")] = "127.0.0.1:8001",
    report: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")] = ROOT
    / "reports"
    / "soak.json",
) -> None:
    """Soak a running platform, and print what callers saw and what its processes gained.

    Example: python -m loadtests.soak --seconds 600 --warm-up 120 --kill-every 60
    """
    if warm_up >= seconds:
        raise typer.BadParameter(
            f"expected less than the {seconds:g} s of the run", param_hint="--warm-up"
        )
    run = Run(url.rstrip("/"), admin, seconds, rate, kill_every, seed)
    tally, census = Tally(), Census(admin)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}"),
        TimeElapsedColumn(),
    )
    try:
        faults = faults_inside(admin)
        with Progress(*columns, console=err) as progress:
            task = progress.add_task("requests", total=round(rate * seconds))
            kills = uvloop.run(run.soak(tally, census, lambda: progress.advance(task)))
        faults = faults_inside(admin) - faults
    except (OSError, ModelError) as error:
        err.print(f"soak: {error}", markup=False)
        raise typer.Exit(2) from None
    marks = {
        "callers": traffic_marks(tally, faults, kills),
        "processes": growth_marks(census.processes, warm_up, seconds),
    }
    show(marks, out)
    for (kind, what, status), times in tally.surprises.most_common(_SHOWN):
        out.print(f"not expected: {kind} {what}: {status}, {times} times", markup=False)
    figures = {
        "surprises": [[*key, n] for key, n in tally.surprises.items()],
        "processes": census.processes,
    }
    write_report(report, {**asdict(run), "warm_up_s": warm_up, "kills": kills}, marks, figures)
    out.print(f"figures in {report}")
    raise typer.Exit(0 if all(mark.is_met for found in marks.values() for mark in found) else 1)


if __name__ == "__main__":
    typer.run(main)
