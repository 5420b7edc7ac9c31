"""The release gate: Locust against a running server, its figures against the objectives, a report either way."""

import importlib.util
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from headrace.config import Objectives
from headrace.errors import StartFailed
from headrace.loadtest.figures import Row, missed, read_rows
from headrace.loadtest.server import served_models

__all__ = ["MEASURED", "Outcome", "run", "show"]

# What a reader of the figures has to know of them.
MEASURED = (
    "closed loop: users wait for an answer before they ask again, so a server that stalls is asked less; "
    "times are from sending to the answer, percentiles exact, by nearest rank, over all requests"
)
_LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_NAME = "loadtest"
_NOTES = ("left out ", "made up ")
# Requests in flight at the end may still be answered; imports, inputs and the report take Locust their time.
_STOP_TIMEOUT_S = 10
_APART_TIMEOUT_S = 120.0
_TICK_S = 0.2
# Clocks are read a moment after what they time.
_SLACK_S = 0.1


@dataclass(frozen=True)
class Outcome:
    """What a load test showed: a sentence in `missed` for each objective not met, `notes` of models left out."""

    rows: tuple[Row, ...]
    total: Row
    missed: tuple[str, ...]
    notes: tuple[str, ...]
    report: Path
    summary: Path

    @property
    def ok(self) -> bool:
        return not self.missed


def run(
    url: str,
    users: int,
    duration_s: float,
    objectives: Mapping[str, Objectives],
    models: Path,
    report_dir: Path,
    needs_all: bool = False,
    console: Console | None = None,
) -> Outcome:
    """Let `users` use the server for `duration_s`; writes loadtest.html, .json and _times.json into `report_dir`.

    `objectives` are by model; a model without any must show no failure. Those of a model that is not served are left
    out, and missed if the run `needs_all`. `models` is the repository that golden rows are taken from. Raises
    StartFailed if there is no Locust, no server, or no model to ask.
    """
    if importlib.util.find_spec("locust") is None:
        raise StartFailed(
            "Locust is not installed; install it with: pip install 'headrace[loadtest]'"
        )
    if not (served := served_models(url)):
        raise StartFailed(f"{url} serves no model that you may ask")
    report_dir.mkdir(parents=True, exist_ok=True)
    # Figures of an earlier run must not be taken for this one's.
    for old in report_dir.glob(f"{_NAME}*"):
        old.unlink()
    log = report_dir / f"{_NAME}.log"
    record = report_dir / f"{_NAME}_times.json"
    command = _command(url, users, duration_s, models, record)
    with log.open("wb") as output:
        code = _watched(command, output.fileno(), duration_s, console or Console(stderr=True))
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if code != 0 or not record.is_file():
        raise StartFailed(_why(code, lines, log))
    rows, total, ran_s = read_rows(record)
    unserved = sorted(objectives.keys() - set(served))
    judged = {model: o for model, o in objectives.items() if needs_all or model not in unserved}
    found = missed(rows, judged)
    if ran_s < duration_s - _SLACK_S:
        found.append(f"expected users to run for {duration_s:g} s, found {ran_s:.1f} s")
    notes = [line for line in lines if line.startswith(_NOTES)]
    notes += [
        f"left out {model}: it has objectives, but is not served at {url}" for model in unserved
    ]
    report, summary = report_dir / f"{_NAME}.html", report_dir / f"{_NAME}.json"
    outcome = Outcome(rows, total, tuple(found), tuple(notes), report, summary)
    summary.write_bytes(_summary(outcome, url, users, duration_s))
    return outcome


def show(outcome: Outcome, console: Console) -> None:
    """Print the figures, what was left out, what was missed, and where the report is."""
    percentiles = (f"p{percent} ms" for percent in (50, 95, 99))
    table = Table(
        Column("model", no_wrap=True), *percentiles, "answers/s", "requests", "failures", box=None
    )
    for row in (*outcome.rows, outcome.total):
        times = (f"{value:.1f}" for value in (row.p50_ms, row.p95_ms, row.p99_ms))
        table.add_row(row.model, *times, f"{row.rate:.1f}", str(row.requests), str(row.failures))
    console.print(table)
    for line in (MEASURED, *outcome.notes, *(f"missed: {sentence}" for sentence in outcome.missed)):
        console.print(line, markup=False)
    console.print(f"report: {outcome.report}", markup=False)


def _command(url: str, users: int, duration_s: float, models: Path, record: Path) -> list[str]:
    load = [
        "--headless",
        "--host",
        url.rstrip("/"),
        "--users",
        str(users),
        "--spawn-rate",
        str(users),
    ]
    length = ["--seconds", str(duration_s), "--stop-timeout", str(_STOP_TIMEOUT_S)]
    html = str(record.with_name(f"{_NAME}.html"))
    reports = [
        "--record",
        str(record),
        "--html",
        html,
        "--only-summary",
        "--exit-code-on-error",
        "0",
    ]
    return [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(_LOCUSTFILE),
        "--models",
        str(models),
        *load,
        *length,
        *reports,
    ]


def _watched(command: Sequence[str], output: int, duration_s: float, console: Console) -> int:
    """Run Locust under a progress bar and give its exit status; it is ended if it goes on for too long."""
    columns = (TextColumn("load test"), BarColumn(), TimeRemainingColumn())
    began_s = time.monotonic()
    with (
        Progress(*columns, console=console, transient=True) as bar,
        subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        ) as locust,
    ):
        task = bar.add_task("load test", total=duration_s)
        try:
            while (
                took_s := time.monotonic() - began_s
            ) < duration_s + _STOP_TIMEOUT_S + _APART_TIMEOUT_S:
                bar.update(task, completed=min(took_s, duration_s))
                try:
                    return locust.wait(_TICK_S)
                except subprocess.TimeoutExpired:
                    continue
            raise StartFailed("Locust did not end in time")
        finally:
            if locust.poll() is None:
                locust.kill()


def _why(code: int, lines: Sequence[str], log: Path) -> str:
    """Why Locust gave no figures: what was left out if that was everything, else its own last words."""
    said = [line for line in lines if line.strip()]
    left_out = [line for line in said if line.startswith("left out ")]
    reason = "; ".join(left_out) if left_out else said[-1] if said else "it said nothing"
    return f"Locust exited {code}: {reason} (all of it: {log})"


def _summary(outcome: Outcome, url: str, users: int, duration_s: float) -> bytes:
    document = {
        "url": url,
        "users": users,
        "duration_s": duration_s,
        "measured": MEASURED,
        "ok": outcome.ok,
        "missed": outcome.missed,
        "notes": outcome.notes,
        "total": asdict(outcome.total),
        "models": [asdict(row) for row in outcome.rows],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
