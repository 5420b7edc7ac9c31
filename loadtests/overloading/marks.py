"""Figures of the drivers' records, and marks on them. Times are seconds since a run's start."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from loadtests.overloading.driver import Record, Seconds

from headrace.loadtest.percentiles import percentile

__all__ = [
    "DRIVER_LATE_S",
    "Mark",
    "Phase",
    "PhaseFigures",
    "at_least",
    "at_most",
    "phase_figures",
    "recovery_s",
]

# Beyond this the driver measured itself as well.
DRIVER_LATE_S = 0.005
_REFUSED = (429, 503, 504)
_WINDOW_S, _STEP_S = 1.0, 0.1


@dataclass(frozen=True)
class Mark:
    """One figure beside what was expected of it."""

    what: str
    expected: str
    measured: str
    is_met: bool


def at_least(what: str, least: float, found: float, unit: str = "%", scale: float = 100.0) -> Mark:
    return Mark(what, f">= {least * scale:g} {unit}", f"{found * scale:.1f} {unit}", found >= least)


def at_most(what: str, most: float, found: float, unit: str = "ms", scale: float = 1e3) -> Mark:
    return Mark(what, f"<= {most * scale:g} {unit}", f"{found * scale:.1f} {unit}", found <= most)


@dataclass(frozen=True)
class Phase:
    """`load` times the capacity, from `begin_s` to `end_s`."""

    load: float
    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.begin_s


@dataclass(frozen=True)
class PhaseFigures:
    """Figures of the requests that were due in a phase. A percentile of nothing is NaN.

    `goodput` is right answers within the deadline that came in the phase, as a share of capacity;
    `wasted` is the share of what the model ran that was not answered in time. `is_from_sending`
    says from when latency counts: from when a request was due, unless the driver was late itself.
    """

    load: float
    counts: dict[str, int]
    goodput: float
    admitted_p99_s: float
    refused_p99_s: float
    wasted: float
    driver_p99_s: float
    is_from_sending: bool


def phase_figures(
    record: Record, runs: npt.NDArray[np.uint8], phase: Phase, deadline_s: float, capacity: float
) -> PhaseFigures:
    """`runs` says how often the model ran each of the record's requests."""
    is_due = (record.due_s >= phase.begin_s) & (record.due_s < phase.end_s)
    driver_p99_s = percentile((record.sent_s - record.due_s)[is_due], 99)
    is_from_sending = not driver_p99_s <= DRIVER_LATE_S
    latency_s = record.ended_s - (record.sent_s if is_from_sending else record.due_s)
    verdicts = verdicts_of(record, runs, latency_s, deadline_s)
    is_right = verdicts == "right"
    in_phase = (record.ended_s >= phase.begin_s) & (record.ended_s < phase.end_s)
    has_run = (runs > 0) & is_due
    return PhaseFigures(
        load=phase.load,
        counts=dict(Counter(verdicts[is_due].tolist())),
        goodput=float((is_right & in_phase).sum()) / phase.seconds / capacity,
        admitted_p99_s=percentile(latency_s[is_due & (record.status == 200)], 99),
        refused_p99_s=percentile(latency_s[is_due & np.isin(record.status, _REFUSED)], 99),
        wasted=float((has_run & ~is_right).sum()) / max(1, int(has_run.sum())),
        driver_p99_s=driver_p99_s,
        is_from_sending=is_from_sending,
    )


def verdicts_of(
    record: Record, runs: npt.NDArray[np.uint8], latency_s: Seconds, deadline_s: float
) -> npt.NDArray[np.str_]:
    """The verdict on each request. Another request's answer is wrong, and so are two runs."""
    is_ok = record.status == 200
    conditions = [
        (is_ok & ~record.is_right) | (runs > 1),
        is_ok & (latency_s <= deadline_s),
        is_ok,
        np.isin(record.status, (429, 503)),
        record.status == 504,
    ]
    return np.select(conditions, ["wrong", "right", "late", "refused", "expired"], "failed")


def recovery_s(record: Record, step_s: float, end_s: float, most_s: float) -> float:
    """Seconds after the step down until a window of a second begins whose requests were right,
    their p99 at most this.

    Infinite if there is none before `end_s`.
    """
    latency_s = record.ended_s - record.due_s
    for begin_s in np.arange(step_s, end_s - _WINDOW_S + _STEP_S / 2, _STEP_S).tolist():
        is_due = (record.due_s >= begin_s) & (record.due_s < begin_s + _WINDOW_S)
        if record.is_right[is_due].all() and percentile(latency_s[is_due], 99) <= most_s:
            return float(begin_s - step_s)
    return float("inf")
