"""Harm by one caller to the others: a request that makes the model raise, and callers who leave."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from loadtests.overloading.callers import Left, leave, saturate
from loadtests.overloading.driver import Record, Stream
from loadtests.overloading.marks import Mark
from loadtests.overloading.metrics import gauges
from loadtests.overloading.model import CAPACITY, FRAGILE_ROWS, POISON, Runs, fixed, fragile
from loadtests.overloading.runs import Run
from loadtests.support.proc import open_files
from loadtests.support.process_platform import ProcessPlatform, process_platform

__all__ = ["State", "Volley", "cancel", "cancel_marks", "poison", "poison_marks", "volley_of"]

MAX_POISONED = 3.0
_BLOCKER_ROWS, _BEHIND_S, _VOLLEY_LEAD_S, _VOLLEY_DEADLINE_S = 50, 0.02, 0.7, 10.0
# Where in its batch the poison is, as shares of the batch: finding it takes longer in some places
# than in others.
_PLACES = (0.0, 0.3, 0.5, 0.8, 0.99)

LEAVERS_A_SECOND, MAX_CHANGED = 1_000, 0.02
_LOAD = 0.7
_CAPACITY_SHARE = 0.5
_SETTLE_S, _POLL_S = 5.0, 0.1


@dataclass(frozen=True)
class Volley:
    """A batch as its callers saw it: right answers, 500s, others, seconds to the last answer."""

    right: int
    failed: int
    others: int
    took_s: float

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.right, self.failed, self.others


def poison(run: Run) -> tuple[list[Mark], object]:
    """A hundred requests at once, with and without a poison; marks and figures."""
    sound: list[Volley] = []
    poisoned: list[Volley] = []
    with tempfile.TemporaryDirectory(prefix="poison-") as temporary:
        replica, _ = fragile(Path(temporary))
        with process_platform([replica]) as at:
            _fire(run, at, None)
            for place_in_batch in _PLACES:
                sound.append(_fire(run, at, None))
                poisoned.append(_fire(run, at, round(place_in_batch * FRAGILE_ROWS)))
    return poison_marks(sound, poisoned), {"sound": sound, "poisoned": poisoned}


def _fire(run: Run, at: ProcessPlatform, poison_at: int | None) -> Volley:
    """Send a volley behind a request that keeps the model busy, so that it makes one batch."""
    numbers = np.arange(FRAGILE_ROWS + 1)
    if poison_at is not None:
        numbers[1 + poison_at] = POISON
    due_s = np.array([0.0] + [_BEHIND_S] * FRAGILE_ROWS)
    stream = Stream(
        at.port, numbers, due_s, _VOLLEY_DEADLINE_S, connections=128, first_rows=_BLOCKER_ROWS
    )
    what = (
        "poison: a sound batch"
        if poison_at is None
        else f"poison: at {poison_at} of {FRAGILE_ROWS}"
    )
    return volley_of(run.drive(what, [stream], _VOLLEY_LEAD_S)[0])


def volley_of(record: Record) -> Volley:
    """The first request is the one before the batch; the batch starts when that is answered."""
    right, failed = int(record.is_right[1:].sum()), int((record.status[1:] == 500).sum())
    took_s = float(record.ended_s[1:].max() - record.ended_s[0])
    return Volley(right, failed, len(record.status) - 1 - right - failed, took_s)


def poison_marks(sound: Sequence[Volley], poisoned: Sequence[Volley]) -> list[Mark]:
    before_s, after_s = (
        median(volley.took_s for volley in volleys) for volleys in (sound, poisoned)
    )
    slowest = max(volley.took_s for volley in poisoned) / before_s
    least = min(volley.right for volley in poisoned)
    are_right = all(volley.counts == (FRAGILE_ROWS - 1, 1, 0) for volley in poisoned)
    are_sound = all(volley.counts == (FRAGILE_ROWS, 0, 0) for volley in sound)
    times = (
        f"{after_s / before_s:.2f}x ({before_s * 1e3:.0f} -> {after_s * 1e3:.0f} ms), at most "
        f"{slowest:.2f}x"
    )
    return [
        Mark(
            "a sound batch: right", f"{FRAGILE_ROWS}", f"{min(v.right for v in sound)}", are_sound
        ),
        Mark("a poisoned batch: right", f"{FRAGILE_ROWS - 1}, and one 500", f"{least}", are_right),
        Mark(
            "its time over that of a sound one",
            f"< {MAX_POISONED:g}x",
            times,
            after_s / before_s < MAX_POISONED,
        ),
    ]


@dataclass(frozen=True)
class State:
    """Open files of a gateway and its replicas, and their gauges of requests and rows."""

    files: tuple[int, ...]
    held: float


def cancel(run: Run) -> tuple[list[Mark], object]:
    """Callers who leave at random moments, and capacity before and after; marks and figures."""
    count, first = round(LEAVERS_A_SECOND * run.seconds), 1
    lasts_s = _CAPACITY_SHARE * run.seconds
    with tempfile.TemporaryDirectory(prefix="cancel-") as temporary:
        replica, runs = fixed(Path(temporary))
        with process_platform([replica]) as at:
            rates = [run.call("cancel: capacity before", lasts_s, saturate, at.port, lasts_s)]
            before = _settled(at, None)
            rate = _LOAD * CAPACITY
            left = run.call(
                f"cancel: {count:,} leave", count / rate, leave, at.port, first, count, rate
            )
            began_s = time.monotonic()
            after = _settled(at, before)
            settled_s = time.monotonic() - began_s
            unwanted = _ran_for_nobody(runs, first, left)
            rates.append(run.call("cancel: capacity after", lasts_s, saturate, at.port, lasts_s))
    figures = {
        "rates": rates,
        "before": before,
        "after": after,
        "settled_s": settled_s,
        "unwanted": unwanted,
    }
    return cancel_marks(rates, before, after, count, unwanted), figures


def _settled(at: ProcessPlatform, wanted: State | None) -> State:
    """The state as soon as nothing is held, or the last one when patience is over."""
    until_s = time.monotonic() + _SETTLE_S
    while (found := _state(at)) != (
        wanted or replace(found, held=0.0)
    ) and time.monotonic() < until_s:
        time.sleep(_POLL_S)
    return found


def _state(at: ProcessPlatform) -> State:
    held = sum(gauges(page) for page in (at.metrics, *at.replica_metrics))
    return State(tuple(open_files(pid) for pid in at.processes), held)


def _ran_for_nobody(runs: Runs, first: int, left: Left) -> int:
    """The number of requests that ran though their callers had left without an answer."""
    has_run = np.array(runs[first : first + len(left.is_answered)]) > 0
    return int((has_run & ~left.is_answered).sum())


def cancel_marks(
    rates: Sequence[float], before: State, after: State, count: int, unwanted: int
) -> list[Mark]:
    change = rates[1] / rates[0] - 1
    files = f"{list(before.files)}, then {list(after.files)}"
    return [
        Mark(
            f"capacity after {count:,} left",
            f"+-{MAX_CHANGED:.0%}",
            f"{change:+.1%} ({rates[0]:.1f} -> {rates[1]:.1f}/s; {unwanted:,} ran for nobody)",
            abs(change) <= MAX_CHANGED,
        ),
        Mark("open files of gateway and replica", "as before", files, after.files == before.files),
        Mark("requests and rows in gateway and replica", "0", f"{after.held:g}", after.held == 0),
    ]
