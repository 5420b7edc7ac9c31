"""Batches under noise, for real: the rate under 64 callers after it, beside the best fixed size by hindsight.

    python loadtests/crowded.py --model cnn

Each model is served as it is, and by one platform for each fixed size. The one that chooses lives through bursts of a
process that burns the cores and through alternations of 1 and 64 callers, and is then measured in turn with the others.
Exit status 1 below nine tenths of the best fixed size.
"""

import asyncio
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from math import inf
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Annotated

import numpy as np
import typer
import uvloop
from rich.console import Console
from rich.table import Table

# Run as a file, Python sees only this file's folder.
sys.path.insert(0, str(Path(__file__).parents[1]))

from loadtests.apart import Platform, Replica, platform
from loadtests.http_client import HttpClient
from loadtests.inputs import REPOSITORY, Shot, infer_shot, shots_for
from loadtests.metrics import samples
from loadtests.peers.make_cnn import write_cnn

from headrace import backends
from headrace.batching.sizes import Sizes
from headrace_models.add import add
from headrace_models.repository import read_version, scan

CALLERS = 64
SIZES = (1, 2, 4, 8, 16, 32, 64)
LEAST_SHARE = 0.9
BURSTS, BURST_S, ALTERNATIONS, ALTERNATION_S, GRACE_S = 3, 2.0, 10, 0.4, 1.0
_DEADLINE_S, _PATIENCE_S = 30.0, 40.0

console = Console(soft_wrap=True, highlight=False)


@dataclass
class Course:
    """A way to form batches: its platform, and what each round brought, in answers a second and rows of a batch."""

    name: str
    at: Platform
    rates: list[float] = field(default_factory=list)
    rows: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return median(self.rates)


def take_all() -> None:
    """Let this process's batches be as large as what waits: `max_rows` is their size then."""
    setattr(Sizes, "most", lambda *_: inf)  # noqa: B010 - to replace the choice is what the fixed sizes are


def _cnn(place: Path) -> tuple[Path, Sequence[Shot]]:
    write_cnn(place / "cnn.onnx")
    folder = add(place / "cnn.onnx", "cnn", place / "models")
    x = np.random.default_rng(0).normal(size=(1, 1, 28, 28)).astype(np.float32)
    expected = backends.load(read_version(folder), "onnx").run({"x": x})["y"]
    return folder, [infer_shot("cnn", {"x": x}, "y", expected)]


def _of_the_zoo(model: str, _: Path) -> tuple[Path, Sequence[Shot]]:
    return scan(REPOSITORY, [model])[0][0].folder, shots_for(model)


MODELS: dict[str, Callable[[Path], tuple[Path, Sequence[Shot]]]] = {
    "cnn": _cnn,
    "dga-lstm": partial(_of_the_zoo, "dga-lstm"),
    "minilm-l6": partial(_of_the_zoo, "minilm-l6"),
    "efficientnet-lite0": partial(_of_the_zoo, "efficientnet-lite0"),
}


def _with_max_rows(folder: Path, rows: int, place: Path) -> Path:
    """A copy of a version whose batches have so many rows at most."""
    copy = place / f"rows-{rows}" / folder.parent.name / folder.name
    shutil.copytree(folder, copy)
    spec, most = copy / "model.toml", read_version(folder).spec.batching.max_rows
    spec.write_text(spec.read_text().replace(f"max_rows = {most}", f"max_rows = {rows}"))
    return copy


async def _drive(at: Platform, shots: Sequence[Shot], callers: int, seconds: float) -> int:
    """Answers that so many callers get, each waiting for one before it asks for the next. Raises on another."""
    until_s, answered, turns = monotonic() + seconds, 0, cycle(shots)

    async def call(client: HttpClient) -> None:
        nonlocal answered
        while monotonic() < until_s:
            reply = await client.send(next(turns))
            if reply.status != 200:
                raise RuntimeError(f"expected 200, found {reply.status}: {reply.body[:200]!r}")
            answered += monotonic() < until_s

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


def _live_through_noise(at: Platform, shots: Sequence[Shot]) -> None:
    for _ in range(BURSTS):
        with _burst():
            uvloop.run(_drive(at, shots, CALLERS, BURST_S))
    for _ in range(ALTERNATIONS):
        for callers in (1, CALLERS):
            uvloop.run(_drive(at, shots, callers, ALTERNATION_S))
    uvloop.run(_drive(at, shots, CALLERS, GRACE_S))


def _batches(at: Platform) -> tuple[float, float]:
    """Rows and batches since the replica's start."""
    found = {s.name: s.value for s in samples(at.replica_metrics[0]) if s.name.startswith("headrace_batch_rows_")}
    return found["headrace_batch_rows_sum"], found["headrace_batch_rows_count"]


def _measure(course: Course, shots: Sequence[Shot], seconds: float) -> None:
    rows, batches = _batches(course.at)
    course.rates.append(uvloop.run(_drive(course.at, shots, CALLERS, seconds)) / seconds)
    rows_then, batches_then = _batches(course.at)
    course.rows.append((rows_then - rows) / (batches_then - batches))


def _show(model: str, courses: Sequence[Course], best: Course) -> None:
    table = Table("batches", "answers/s", "spread", "rows a batch", "of the best fixed", title=model)
    for course in courses:
        spread = f"{min(course.rates):,.0f} to {max(course.rates):,.0f}"
        share = f"{course.rate / best.rate:.2f}"
        table.add_row(course.name, f"{course.rate:,.0f}", spread, f"{median(course.rows):.1f}", share)
    console.print(table)


def _judge(model: str, rounds: int, seconds: float) -> float:
    """The share of the best fixed size."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crowded-")))
        folder, shots = MODELS[model](place)
        most = read_version(folder).spec.batching.max_rows

        def course(name: str, replica: Replica) -> Course:
            return Course(name, stack.enter_context(platform([replica])))

        chosen = course("chosen", Replica(folder))
        fixed = [
            course(f"fixed: {size}", Replica(_with_max_rows(folder, size, place), prepare=take_all))
            for size in SIZES
            if size <= most
        ]
        for number in range(rounds):
            console.print(f"{model}: round {number + 1} of {rounds}", style="dim")
            _live_through_noise(chosen.at, shots)
            turn = number % (len(fixed) + 1)
            for each in [*fixed[:turn], chosen, *fixed[turn:]]:
                uvloop.run(_drive(each.at, shots, CALLERS, GRACE_S / 2))
                _measure(each, shots, seconds)
    best = max(fixed, key=lambda each: each.rate)
    _show(model, [chosen, *fixed], best)
    return chosen.rate / best.rate


def main(
    model: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(MODELS)}.")] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100)] = 5,
    seconds: Annotated[float, typer.Option(min=0.5, max=60, help="Of each measurement.")] = 2.0,
) -> None:
    """Measure the rate under 64 callers after noise, beside every fixed size of batches.

    Example: python loadtests/crowded.py --model dga-lstm --rounds 3
    """
    chosen = model or list(MODELS)
    if unknown := [name for name in chosen if name not in MODELS]:
        raise typer.BadParameter(f"expected one of {', '.join(MODELS)}, found {unknown[0]}", param_hint="--model")
    shares = {name: _judge(name, rounds, seconds) for name in chosen}
    for name, share in shares.items():
        console.print(f"{name}: {share:.2f} of the best fixed size after noise")
    raise typer.Exit(0 if min(shares.values()) >= LEAST_SHARE else 1)


if __name__ == "__main__":
    typer.run(main)
