"""The release gate: Locust against a server, its figures against objectives, and a report."""

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

__all__ = ["MEASURED", "Verdict", "run", "show"]

# A note for readers of the figures.
MEASURED = (
    "closed loop: users wait for an answer before they send again, "
    "so a server that stalls gets fewer requests; "
    "times are from sending to the answer, percentiles exact, by nearest rank, over all requests"
)
_LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_NAME = "loadtest"
_NOTES = ("left out ", "made up ")
# Requests in flight at the end may still be answered.
_STOP_TIMEOUT_S = 10
# Locust also needs time for imports, inputs and its report.
_OVERHEAD_TIMEOUT_S = 120.0
_TICK_S = 0.2
# Clocks are read a moment after what they time.
_SLACK_S = 0.1


@dataclass(frozen=True)
class Verdict:
    """The result: a sentence in `missed` for each missed objective, `notes` of models left out."""

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
) -> Verdict:
    """Let `users` use the server for `duration_s`, and write the report into `report_dir`.

    The report is loadtest.html, loadtest.json and loadtest_times.json.

    `objectives` are by model; a model without objectives must show no failure. Objectives of a
    model that is not served are left out, or missed if the run `needs_all`. Golden rows come from
    the repository `models`. Raises StartFailed without Locust, without a server, or without a model
    to use.
    """
    if importlib.util.find_spec("locust") is None:
        raise StartFailed(
            "Locust is not installed; install it with: pip install 'headrace[loadtest]'"
        )
    served = served_models(url)
    if not served:
        raise StartFailed(f"{url}: expected a model that this key may use, found none")
    report_dir.mkdir(parents=True, exist_ok=True)
    # Figures of an earlier run must not be taken for this one's.
    for old in report_dir.glob(f"{_NAME}*"):
        old.unlink()
    record = report_dir / f"{_NAME}_times.json"
    command = _command(url, users, duration_s, models, record)
    lines = _output_of(command, record, duration_s, console or Console(stderr=True))
    unserved = sorted(objectives.keys() - set(served))
    judged = {model: o for model, o in objectives.items() if needs_all or model not in unserved}
    notes = [line for line in lines if line.startswith(_NOTES)]
    notes += [
        f"left out {model}: it has objectives, but is not served at {url}" for model in unserved
    ]
    verdict = _judge(record, judged, notes, duration_s)
    verdict.summary.write_bytes(_summary(verdict, url, users, duration_s))
    return verdict


def show(verdict: Verdict, console: Console) -> None:
    """Print the figures, notes, missed objectives, and the path of the report."""
    percentiles = (f"p{percent} ms" for percent in (50, 95, 99))
    table = Table(
        Column("model", no_wrap=True), *percentiles, "answers/s", "requests", "failures", box=None
    )
    for row in (*verdict.rows, verdict.total):
        times = (f"{value:.1f}" for value in (row.p50_ms, row.p95_ms, row.p99_ms))
        table.add_row(row.model, *times, f"{row.rate:.1f}", str(row.requests), str(row.failures))
    console.print(table)
    for line in (MEASURED, *verdict.notes, *(f"missed: {sentence}" for sentence in verdict.missed)):
        console.print(line, markup=False)
    console.print(f"report: {verdict.report}", markup=False)


def _command(url: str, users: int, duration_s: float, models: Path, record: Path) -> list[str]:
    options = {
        "-f": _LOCUSTFILE,
        "--models": models,
        "--host": url.rstrip("/"),
        "--users": users,
        "--spawn-rate": users,
        "--seconds": duration_s,
        "--stop-timeout": _STOP_TIMEOUT_S,
        "--record": record,
        "--html": record.with_name(f"{_NAME}.html"),
        "--exit-code-on-error": 0,
    }
    command = [sys.executable, "-m", "locust", "--headless", "--only-summary"]
    for option, value in options.items():
        command += [option, str(value)]
    return command


def _output_of(
    command: Sequence[str], record: Path, duration_s: float, console: Console
) -> list[str]:
    """Run Locust and return its lines. Raises StartFailed if it failed or made no record."""
    log = record.with_name(f"{_NAME}.log")
    with log.open("wb") as output:
        code = _run_locust(command, output.fileno(), duration_s, console)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if code != 0 or not record.is_file():
        raise StartFailed(_why_it_failed(code, lines, log))
    return lines


def _judge(
    record: Path, objectives: Mapping[str, Objectives], notes: Sequence[str], duration_s: float
) -> Verdict:
    rows, total, ran_s = read_rows(record)
    sentences = missed(rows, objectives)
    if ran_s < duration_s - _SLACK_S:
        sentences.append(f"expected users to run for {duration_s:g} s, found {ran_s:.1f} s")
    return Verdict(
        rows=rows,
        total=total,
        missed=tuple(sentences),
        notes=tuple(notes),
        report=record.with_name(f"{_NAME}.html"),
        summary=record.with_name(f"{_NAME}.json"),
    )


def _run_locust(command: Sequence[str], output: int, duration_s: float, console: Console) -> int:
    """Run Locust with a progress bar and return its exit status; kill it if it runs too long."""
    columns = (TextColumn("load test"), BarColumn(), TimeRemainingColumn())
    began_s = time.monotonic()
    timeout_s = duration_s + _STOP_TIMEOUT_S + _OVERHEAD_TIMEOUT_S
    with (
        Progress(*columns, console=console, transient=True) as bar,
        subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        ) as locust,
    ):
        task = bar.add_task("load test", total=duration_s)
        try:
            while (took_s := time.monotonic() - began_s) < timeout_s:
                bar.update(task, completed=min(took_s, duration_s))
                try:
                    return locust.wait(_TICK_S)
                except subprocess.TimeoutExpired:
                    continue
            raise StartFailed(f"Locust did not end within {timeout_s:g} s")
        finally:
            if locust.poll() is None:
                locust.kill()


def _why_it_failed(code: int, lines: Sequence[str], log: Path) -> str:
    """The models left out, if any, otherwise Locust's last line."""
    left_out = [line for line in lines if line.startswith("left out ")]
    last = [line for line in lines if line.strip()][-1:] or ["it printed nothing"]
    return f"Locust exited with code {code}: {'; '.join(left_out or last)} (see {log})"


def _summary(verdict: Verdict, url: str, users: int, duration_s: float) -> bytes:
    document = {
        "url": url,
        "users": users,
        "duration_s": duration_s,
        "measured": MEASURED,
        "ok": verdict.ok,
        "missed": verdict.missed,
        "notes": verdict.notes,
        "total": asdict(verdict.total),
        "models": [asdict(row) for row in verdict.rows],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
