"""Overload and fairness: too much from everybody, or from one key beside another."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
from loadtests.open_loop import poisson_schedule
from loadtests.overloading.driver import Record, Seconds, Stream
from loadtests.overloading.marks import (
    Mark,
    Phase,
    PhaseFigures,
    at_least,
    at_most,
    phase_figures,
    recovery_s,
)
from loadtests.overloading.model import CAPACITY, Runs, fixed
from loadtests.overloading.runs import Run
from loadtests.support.process_platform import ProcessPlatform, process_platform

from headrace.keys.file import add_key
from headrace.keys.key import issue, utc_now

__all__ = ["fairness", "fairness_marks", "overload", "overload_marks", "phases_of", "schedule_of"]

BASE, AFTER = 0.7, 0.5
# Of each overload the least share of capacity that is still answered in time.
GOODPUT = {2.0: 0.90, 5.0: 0.85, 10.0: 0.75}
MAX_REFUSED_P99_S, MAX_WASTED = 0.020, 0.01
MAX_RECOVERY_S, RECOVERED = 5.0, 1.2
FLOOD, SHARE, MAX_SLOWED = 10.0, 0.3, 1.5
_FIRST = 1


def overload(run: Run) -> tuple[list[Mark], object]:
    """Below capacity, 2, 5 and 10 times of it, and below it again; marks and figures."""
    phases = phases_of(run.seconds)
    due_s = schedule_of(phases)
    with tempfile.TemporaryDirectory(prefix="overload-") as temporary:
        replica, runs = fixed(Path(temporary))
        with process_platform([replica]) as at:
            [record] = run.drive(
                "overload", [Stream(at.port, _numbers(_FIRST, due_s), due_s, run.deadline_s)]
            )
        ran = _of(runs, _FIRST, record)
    found = [phase_figures(record, ran, phase, run.deadline_s, CAPACITY) for phase in phases]
    after = phases[-1]
    back_s = recovery_s(record, after.begin_s, after.end_s, RECOVERED * found[0].admitted_p99_s)
    return overload_marks(found, back_s, run.deadline_s), [asdict(figures) for figures in found]


def phases_of(seconds: float) -> list[Phase]:
    """The loads, one after the other. The last one is long enough to see it recover, or fail to."""
    lasts_s = [seconds] * (1 + len(GOODPUT)) + [max(seconds, MAX_RECOVERY_S + 2)]
    ends_s = list(accumulate(lasts_s))
    return [
        Phase(load, end_s - last_s, end_s)
        for load, last_s, end_s in zip((BASE, *GOODPUT, AFTER), lasts_s, ends_s, strict=True)
    ]


def schedule_of(phases: Sequence[Phase]) -> Seconds:
    """When each request is due: independent callers, the same ones each time."""
    parts = [
        np.array(poisson_schedule(phase.load * CAPACITY, phase.seconds, seed)) + phase.begin_s
        for seed, phase in enumerate(phases)
    ]
    return np.sort(np.concatenate(parts))


def overload_marks(found: Sequence[PhaseFigures], back_s: float, deadline_s: float) -> list[Mark]:
    marks: list[Mark] = []
    for figures in found:
        if figures.load in GOODPUT:
            name = f"{figures.load:g}x"
            since = ", from sending: the driver was late" if figures.is_from_sending else ""
            marks += [
                at_least(
                    f"{name}: right in time, of capacity", GOODPUT[figures.load], figures.goodput
                ),
                at_most(f"{name}: p99 of the admitted{since}", deadline_s, figures.admitted_p99_s),
                at_most(
                    f"{name}: p99 of the refused{since}", MAX_REFUSED_P99_S, figures.refused_p99_s
                ),
                at_most(f"{name}: run, but not in time", MAX_WASTED, figures.wasted, "%", 100),
            ]
    marks.append(
        at_most(f"back to {RECOVERED:g}x of the p99 at {BASE:g}x", MAX_RECOVERY_S, back_s, "s", 1)
    )
    return [*marks, _ledger_mark(found)]


def _ledger_mark(found: Sequence[PhaseFigures]) -> Mark:
    wrong, failed = (
        sum(figures.counts.get(word, 0) for figures in found) for word in ("wrong", "failed")
    )
    requests = sum(sum(figures.counts.values()) for figures in found)
    measured = f"{wrong} wrong, {failed} failed of {requests:,}"
    return Mark("ledger", "0 wrong, 0 failed", measured, not wrong and not failed)


def fairness(run: Run) -> tuple[list[Mark], object]:
    """A key that needs less than its share, alone and beside a flooding one; marks and figures."""
    share = Phase(SHARE, 0.0, run.seconds)
    light_s = np.array(poisson_schedule(SHARE * CAPACITY, run.seconds, seed=1))
    heavy_s = np.array(poisson_schedule(FLOOD * CAPACITY, run.seconds, seed=2))
    with tempfile.TemporaryDirectory(prefix="fairness-") as temporary:
        replica, runs = fixed(Path(temporary))
        file = Path(temporary) / "keys.json"
        light_key, heavy_key = _made_key(file, "light"), _made_key(file, "heavy")

        def figures(record: Record, first: int) -> PhaseFigures:
            return phase_figures(record, _of(runs, first, record), share, run.deadline_s, CAPACITY)

        def light(at: ProcessPlatform, first: int) -> Stream:
            return Stream(
                at.port,
                _numbers(first, light_s),
                light_s,
                run.deadline_s,
                light_key,
                connections=128,
            )

        with process_platform([replica], keys=file) as at:
            first = _FIRST + len(light_s)
            heavy_first = first + len(light_s)
            flood = Stream(
                at.port, _numbers(heavy_first, heavy_s), heavy_s, run.deadline_s, heavy_key
            )
            [alone] = run.drive("fairness: alone", [light(at, _FIRST)])
            beside, flooded = run.drive("fairness: beside a flood", [light(at, first), flood])
        found = [figures(alone, _FIRST), figures(beside, first), figures(flooded, heavy_first)]
    return fairness_marks(*found), [asdict(one) for one in found]


def fairness_marks(alone: PhaseFigures, beside: PhaseFigures, flooded: PhaseFigures) -> list[Mark]:
    lost = sum(count for word, count in beside.counts.items() if word != "right")
    slowed = beside.admitted_p99_s / alone.admitted_p99_s
    times = (
        f"{slowed:.2f}x ({alone.admitted_p99_s * 1e3:.0f} -> {beside.admitted_p99_s * 1e3:.0f} ms)"
    )
    served = flooded.counts.get("right", 0)
    return [
        Mark(
            "beside a flood: not right in time",
            "0",
            f"{lost} of {sum(beside.counts.values()):,}",
            not lost,
        ),
        Mark(
            "beside a flood: p99 over that alone", f"< {MAX_SLOWED:g}x", times, slowed < MAX_SLOWED
        ),
        Mark(
            "the flood itself is served, too",
            "> 0",
            f"{served:,} of {sum(flooded.counts.values()):,}",
            served > 0,
        ),
    ]


def _made_key(file: Path, name: str) -> str:
    key, text = issue(name, utc_now())
    add_key(file, key)
    return text


def _numbers(first: int, due_s: Seconds) -> npt.NDArray[np.int64]:
    return np.arange(first, first + len(due_s))


def _of(runs: Runs, first: int, record: Record) -> Runs:
    """The runs of each request of a record, copied out of the shared file."""
    return np.array(runs[first : first + len(record.due_s)])
