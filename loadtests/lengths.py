"""The worth of batches of like lengths: MiniLM on heavy-tailed texts, beside first-come batches.

    python -m loadtests.lengths

Lengths are log-normal: half of the texts have at most 16 tokens, the longest 256. Requests come as
independent callers send them, at a rate that grows until the 99th percentile passes 500 ms; both
policies run on each rate in turn. What is compared is the batcher as it is and the same with
batches in the order of coming, padded to their longest row. Each answer is compared with that of
its text alone. Exit status 1 below 1.8 times the throughput.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import typer
import uvloop
from loadtests.inputs import CheckedRequest, infer_request
from loadtests.open_loop import Figures, figures, measure, poisson_schedule
from loadtests.support.checkout import REPOSITORY
from loadtests.support.metrics import samples
from loadtests.support.process_platform import ProcessPlatform, Replica, process_platform
from rich.console import Console
from rich.table import Table

from headrace import backends
from headrace.batching import batcher, policy
from headrace_models.repository import ModelVersion, scan

__all__ = ["Course", "draw_lengths", "gain", "requests"]

MODEL = "minilm-l6"
MEDIAN, LONGEST, SPREAD = 16, 256, 1.0
MAX_P99_S, MIN_GAIN = 0.5, 1.8
_FIRST_RATE, _STEP = 20.0, 1.2
_DEADLINE_S = 5.0
_TEXTS = 300
_CLS, _SEP, _FIRST_WORD, _WORDS = 101, 102, 2000, 20_000  # of BERT's vocabulary


@dataclass
class Course:
    """A policy and, for each rate, its figures and the share of padding in its batches."""

    name: str
    at: ProcessPlatform
    best: Figures | None = None
    padding: float = float("nan")
    is_over: bool = False
    rows: list[tuple[float, Figures, float]] = field(default_factory=list)


def draw_lengths(count: int, seed: int = 0) -> list[int]:
    """Tokens of each text: log-normal, cut at LONGEST."""
    normal = np.random.default_rng(seed).standard_normal(count)
    lengths: list[int] = (
        np.clip(np.round(MEDIAN * np.exp(SPREAD * normal)), 3, LONGEST).astype(int).tolist()
    )
    return lengths


def requests(version: ModelVersion, lengths: Sequence[int]) -> list[CheckedRequest]:
    """A text of each length, and its own answer when it runs alone."""
    chance = np.random.default_rng(1)
    model = backends.load(version, "onnx")
    made = []
    for length in lengths:
        words = chance.integers(_FIRST_WORD, _FIRST_WORD + _WORDS, length - 2)
        ids = np.array([[_CLS, *words, _SEP]], np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        made.append(infer_request(MODEL, inputs, "embedding", model.run(inputs)["embedding"]))
    return made


def first_come() -> None:
    """Make this process's batches of whoever comes next, as long as there is room."""

    def pick(line: Iterable[Any], max_rows: int, *_: object, **__: object) -> policy.Picked[Any]:
        return policy.pick(line, max_rows, is_ragged=False)

    setattr(batcher, "pick", pick)  # noqa: B010 - to replace a function is what this load test is for


def gain(before: Course, after: Course) -> float:
    """The ratio of throughputs at an allowed latency; NaN if a policy never kept it."""
    if before.best is None or after.best is None:
        return float("nan")
    return after.best.goodput / before.best.goodput


def _cells(at: ProcessPlatform) -> dict[str, float]:
    found = samples(at.replica_metrics[0])
    return {s.labels["kind"]: s.value for s in found if s.name == "headrace_batch_cells_total"}


def _run(course: Course, texts: Sequence[CheckedRequest], rate: float, seconds: float) -> None:
    """One rate. The course is over once the latency is not kept, or not all is answered."""
    before = _cells(course.at)
    schedule = poisson_schedule(rate, seconds)
    found = figures(uvloop.run(measure(course.at.url, texts, schedule, _DEADLINE_S)), seconds)
    after = _cells(course.at)
    real, padding = (after[kind] - before[kind] for kind in ("real", "padding"))
    share = padding / (real + padding)
    course.rows.append((rate, found, share))
    if found.p99_s <= MAX_P99_S and found.counts["right"] == found.scheduled:
        course.best, course.padding = found, share
    else:
        course.is_over = True


def _rates() -> Iterator[float]:
    rate = _FIRST_RATE
    while True:
        yield rate
        rate *= _STEP


def _show(courses: Sequence[Course], console: Console) -> None:
    table = Table(
        "policy", "offered/s", "right/s", "p50 ms", "p99 ms", "padding", "not right", title=MODEL
    )
    for course in courses:
        for rate, found, padding in course.rows:
            missed = found.scheduled - found.counts["right"]
            p50, p99 = (f"{1e3 * found.percentiles_s[n]:.0f}" for n in (0, 2))
            table.add_row(
                course.name,
                f"{rate:.0f}",
                f"{found.goodput:.1f}",
                p50,
                p99,
                f"{padding:.0%}",
                str(missed),
            )
    console.print(table)


def main(
    seconds: Annotated[float, typer.Option(min=1, help="How long each rate is driven.")] = 10.0,
) -> None:
    """Measure MiniLM's throughput on heavy-tailed lengths, by two policies.

    Example: python -m loadtests.lengths --seconds 5
    """
    console = Console(soft_wrap=True, highlight=False)
    version = scan(REPOSITORY, [MODEL])[0][0]
    texts = requests(version, draw_lengths(_TEXTS))
    prepared: Sequence[tuple[str, Callable[[], None] | None]] = (
        ("first come", first_come),
        ("by length", None),
    )
    with ExitStack() as stack:
        courses = [
            Course(
                name,
                stack.enter_context(process_platform([Replica(version.folder, prepare=prepare)])),
            )
            for name, prepare in prepared
        ]
        for rate in _rates():
            for course in courses:
                if not course.is_over:
                    console.print(f"{course.name}: {rate:.0f} requests/s", style="dim")
                    _run(course, texts, rate, seconds)
            if all(course.is_over for course in courses):
                break
    _show(courses, console)
    found = gain(*courses)
    console.print(
        f"right answers a second at p99 <= {MAX_P99_S * 1e3:.0f} ms: {found:.2f} times; "
        f"padding {courses[0].padding:.0%} -> {courses[1].padding:.0%}"
    )
    raise typer.Exit(0 if found >= MIN_GAIN else 1)


if __name__ == "__main__":
    typer.run(main)
