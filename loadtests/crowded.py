"""Batches under noise, for real: the rate under 64 callers after it, beside the best fixed size by
hindsight.

    python -m loadtests.crowded --model cnn

Each model is served as it is, and by one platform for each fixed size. In each round the one that
chooses has to endure bursts of processes that burn the cores, and alternations of 1 and 64 callers.
Then all are measured in short slices, in random order, since a shared machine is never the
same for long. Exit status 1 below nine tenths of the best fixed size.
"""

import asyncio
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from math import inf
from pathlib import Path
from random import Random
from statistics import median
from time import monotonic
from typing import Annotated, NamedTuple

import numpy as np
import typer
import uvloop
from loadtests.inputs import CheckedRequest, infer_request, requests_for
from loadtests.peers.make_cnn import write_cnn
from loadtests.support.checkout import REPOSITORY
from loadtests.support.http_client import HttpClient
from loadtests.support.metrics import samples
from loadtests.support.process_platform import ProcessPlatform, Replica, process_platform
from rich.console import Console
from rich.table import Table

from headrace import backends
from headrace.batching.sizes import Sizes
from headrace_models.add import add
from headrace_models.repository import read_version, scan

CALLERS = 64
SIZES = (1, 2, 4, 8, 16, 32, 64)
LEAST_SHARE = 0.9
BURSTS, BURST_S, ALTERNATIONS, ALTERNATION_S, GRACE_S, SLICE_S = 3, 2.0, 10, 0.4, 1.0, 1.0
_DEADLINE_S, _PATIENCE_S = 30.0, 40.0

_WIDTH = 110
console = Console(soft_wrap=True, highlight=False)


@dataclass
class Course:
    """A way to form batches, its platform, and what each round brought.

    That is answers a second, rows of a batch, and the CPU time of gateway and replica for an
    answer, in seconds.
    """

    name: str
    at: ProcessPlatform
    rates: list[float] = field(default_factory=list)
    rows: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return median(self.rates)


class Counts(NamedTuple):
    """Since the start of a platform's processes."""

    rows: float
    batches: float
    cpu_s: float


def take_all() -> None:
    """Let this process's batches be as large as what waits: `max_rows` is their size then."""
    setattr(Sizes, "most", lambda *_: inf)  # noqa: B010 - to replace the choice is what the fixed sizes are


def _cnn(scratch: Path) -> tuple[Path, Sequence[CheckedRequest]]:
    write_cnn(scratch / "cnn.onnx")
    folder = add(scratch / "cnn.onnx", "cnn", scratch / "models")
    x = np.random.default_rng(0).normal(size=(1, 1, 28, 28)).astype(np.float32)
    expected = backends.load(read_version(folder), "onnx").run({"x": x})["y"]
    return folder, [infer_request("cnn", {"x": x}, "y", expected)]


def _of_the_zoo(model: str, _: Path) -> tuple[Path, Sequence[CheckedRequest]]:
    return scan(REPOSITORY, [model])[0][0].folder, requests_for(model)


MODELS: dict[str, Callable[[Path], tuple[Path, Sequence[CheckedRequest]]]] = {
    "cnn": _cnn,
    "dga-lstm": partial(_of_the_zoo, "dga-lstm"),
    "minilm-l6": partial(_of_the_zoo, "minilm-l6"),
    "efficientnet-lite0": partial(_of_the_zoo, "efficientnet-lite0"),
}


def _with_max_rows(folder: Path, rows: int, scratch: Path) -> Path:
    """A copy of a version whose batches have so many rows at most."""
    copy = scratch / f"rows-{rows}" / folder.parent.name / folder.name
    shutil.copytree(folder, copy)
    spec, most = copy / "model.toml", read_version(folder).spec.batching.max_rows
    spec.write_text(spec.read_text().replace(f"max_rows = {most}", f"max_rows = {rows}"))
    return copy


async def _drive(
    at: ProcessPlatform, requests: Sequence[CheckedRequest], callers: int, seconds: float
) -> int:
    """Count answers to `callers` that send one request after another. Raises unless all are 200."""
    until_s = monotonic() + seconds
    answered = 0
    endless = cycle(requests)

    async def call(client: HttpClient) -> None:
        nonlocal answered
        while monotonic() < until_s:
            reply = await client.send(next(endless))
            if reply.status != 200:
                raise RuntimeError(f"expected 200, found {reply.status}: {reply.body[:200]!r}")
            if monotonic() < until_s:
                answered += 1

    async with HttpClient(at.url, _DEADLINE_S, _PATIENCE_S) as client, asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(call(client))
    return answered


def _burn() -> None:
    until_s = monotonic() + BURST_S
    while monotonic() < until_s:
        sum(range(10_000))


@contextmanager
def _burst() -> Iterator[None]:
    """A process for each of two cores that takes as much of it as it gets."""
    burners = [multiprocessing.get_context("spawn").Process(target=_burn) for _ in range(2)]
    for burner in burners:
        burner.start()
    try:
        yield
    finally:
        for burner in burners:
            burner.join()


def _live_through_noise(at: ProcessPlatform, requests: Sequence[CheckedRequest]) -> None:
    for _ in range(BURSTS):
        with _burst():
            uvloop.run(_drive(at, requests, CALLERS, BURST_S))
    for _ in range(ALTERNATIONS):
        for callers in (1, CALLERS):
            uvloop.run(_drive(at, requests, callers, ALTERNATION_S))
    uvloop.run(_drive(at, requests, CALLERS, GRACE_S))


def _counts(at: ProcessPlatform) -> Counts:
    found = {
        s.name: s.value
        for s in samples(at.replica_metrics[0])
        if s.name.startswith("headrace_batch_rows_")
    }
    cpu_s = sum(map(_cpu_s, at.processes))
    return Counts(found["headrace_batch_rows_sum"], found["headrace_batch_rows_count"], cpu_s)


def _cpu_s(pid: int) -> float:
    """User and system time of a process (proc(5): fields 14 and 15 of stat, in ticks)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _measure(
    courses: Sequence[Course], requests: Sequence[CheckedRequest], seconds: float, chance: Random
) -> None:
    """One round: each course for so long, in slices that begin with a second of grace."""
    slices = max(1, round(seconds / SLICE_S))
    spent = [Counts(0, 0, 0)] * len(courses)
    answered = [0] * len(courses)
    for _ in range(slices):
        for n in chance.sample(range(len(courses)), len(courses)):
            uvloop.run(_drive(courses[n].at, requests, CALLERS, GRACE_S))
            then = _counts(courses[n].at)
            answered[n] += uvloop.run(_drive(courses[n].at, requests, CALLERS, SLICE_S))
            now = _counts(courses[n].at)
            spent[n] = Counts(
                *(so_far + b - a for so_far, a, b in zip(spent[n], then, now, strict=True))
            )
    for course, counts, answers in zip(courses, spent, answered, strict=True):
        course.rates.append(answers / slices / SLICE_S)
        course.rows.append(counts.rows / counts.batches)
        course.cpu_s.append(counts.cpu_s / answers)


def _show(model: str, courses: Sequence[Course], best: Course) -> None:
    table = Table(
        "batches",
        "answers/s",
        "spread",
        "rows a batch",
        "CPU ms an answer",
        "of the best fixed",
        title=model,
    )
    for course in courses:
        spread = f"{min(course.rates):,.0f} to {max(course.rates):,.0f}"
        figures = (
            f"{median(course.rows):.1f}",
            f"{1e3 * median(course.cpu_s):.3f}",
            f"{_share(course, best):.2f}",
        )
        table.add_row(course.name, f"{course.rate:,.0f}", spread, *figures)
    console.width = max(console.width, _WIDTH)
    console.print(table)


def _share(course: Course, of: Course) -> float:
    """The median of what each round says."""
    return median(own / theirs for own, theirs in zip(course.rates, of.rates, strict=True))


def _judge(model: str, rounds: int, seconds: float) -> float:
    """The share of the best fixed size."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crowded-")))
        folder, requests = MODELS[model](scratch)
        most = read_version(folder).spec.batching.max_rows

        def course(name: str, replica: Replica) -> Course:
            return Course(name, stack.enter_context(process_platform([replica])))

        chosen = course("chosen", Replica(folder))
        fixed = [
            course(
                f"fixed: {size}", Replica(_with_max_rows(folder, size, scratch), prepare=take_all)
            )
            for size in SIZES
            if size <= most
        ]
        for number in range(rounds):
            console.print(f"{model}: round {number + 1} of {rounds}", style="dim")
            _live_through_noise(chosen.at, requests)
            _measure([chosen, *fixed], requests, seconds, Random(number))  # noqa: S311 - an order that can be had again
    best = max(fixed, key=lambda each: each.rate)
    _show(model, [chosen, *fixed], best)
    return _share(chosen, best)


def main(
    model: Annotated[
        list[str] | None, typer.Option(help=f"Only these: {', '.join(MODELS)}.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100)] = 5,
    seconds: Annotated[float, typer.Option(min=0.5, max=60, help="Of each way in a round.")] = 4.0,
) -> None:
    """Measure the rate under 64 callers after noise, beside every fixed size of batches.

    Example: python -m loadtests.crowded --model dga-lstm --rounds 3
    """
    chosen = model or list(MODELS)
    if unknown := [name for name in chosen if name not in MODELS]:
        raise typer.BadParameter(
            f"expected one of {', '.join(MODELS)}, found {unknown[0]}", param_hint="--model"
        )
    shares = {name: _judge(name, rounds, seconds) for name in chosen}
    for name, share in shares.items():
        console.print(f"{name}: {share:.2f} of the best fixed size after noise")
    raise typer.Exit(0 if min(shares.values()) >= LEAST_SHARE else 1)


if __name__ == "__main__":
    typer.run(main)
