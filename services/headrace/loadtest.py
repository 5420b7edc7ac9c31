"""The release gate: Locust against a running server, its figures against the objectives, a report either way."""

import http.client
import importlib.util
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from headrace.config import Objectives
from headrace.errors import StartFailed

__all__ = ["LOCUSTFILE", "Outcome", "Row", "missed", "read_rows", "run", "show"]

LOCUSTFILE = Path("loadtests/locustfile.py")
TOTAL = "all"
_NAME = "loadtest"
_REACH_TIMEOUT_S = 5.0
# Requests in flight at the end may still be answered; the report takes Locust a moment too.
_STOP_TIMEOUT_S = 10
_END_TIMEOUT_S = 60.0
_TICK_S = 0.2


@dataclass(frozen=True)
class Row:
    """What users saw of a model, or of all together. `rate` counts answers that were no failure."""

    model: str
    requests: int
    failures: int
    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @property
    def failure_ratio(self) -> float:
        return self.failures / self.requests if self.requests else 0.0


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
    report_dir: Path = Path("reports"),
    locustfile: Path = LOCUSTFILE,
    console: Console | None = None,
) -> Outcome:
    """Let `users` use the server for `duration_s`; writes loadtest.html and loadtest.json into `report_dir`.

    `objectives` are by model; a model without any must show no failure. Raises StartFailed if there is no server, no
    Locust, no locustfile, or no model that it knows.
    """
    _check(url, locustfile)
    report_dir.mkdir(parents=True, exist_ok=True)
    # Figures of an earlier run must not be taken for this one's.
    for old in report_dir.glob(f"{_NAME}*"):
        old.unlink()
    log = report_dir / f"{_NAME}.log"
    command = _command(url, users, duration_s, report_dir, locustfile)
    with log.open("wb") as output:
        code = _watched(command, output.fileno(), duration_s, console or Console(stderr=True))
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    stats = report_dir / f"{_NAME}_stats.json"
    if code != 0 or not stats.is_file():
        raise StartFailed(_why(code, lines, log))
    rows, total = read_rows(stats)
    notes = tuple(line for line in lines if line.startswith("left out "))
    report, summary = report_dir / f"{_NAME}.html", report_dir / f"{_NAME}.json"
    outcome = Outcome(rows, total, tuple(missed(rows, objectives)), notes, report, summary)
    summary.write_bytes(_summary(outcome, url, users, duration_s))
    return outcome


def read_rows(stats: Path) -> tuple[tuple[Row, ...], Row]:
    """Locust's final figures: a row for each model, by name, and the row of all together."""
    entries = orjson.loads(stats.read_bytes())
    took_s = _took_s(entries)
    rows = [_row(e["name"], e["num_requests"], e["num_failures"], _times(e), took_s) for e in entries]
    everything: Counter[float] = sum(map(_times, entries), Counter())
    total = _row(TOTAL, sum(r.requests for r in rows), sum(r.failures for r in rows), everything, took_s)
    return tuple(sorted(rows, key=lambda row: row.model)), total


def missed(rows: Sequence[Row], objectives: Mapping[str, Objectives]) -> list[str]:
    """One sentence for each objective that these figures do not meet."""
    silent = objectives.keys() - {row.model for row in rows if row.requests}
    sentences = [f"{model}: expected requests, as it has objectives, found none" for model in sorted(silent)]
    if not rows and not silent:
        sentences.append("expected requests, found none")
    for row in rows:
        sentences += _misses(row, objectives.get(row.model, Objectives()))
    return sentences


def show(outcome: Outcome, console: Console) -> None:
    """Print the figures, what was left out, what was missed, and where the report is."""
    table = Table(
        Column("model", no_wrap=True), *(f"p{share} ms" for share in (50, 95, 99)), "answers/s", "requests", "failures"
    )
    for row in (*outcome.rows, outcome.total):
        times = (f"{value:.0f}" for value in (row.p50_ms, row.p95_ms, row.p99_ms))
        table.add_row(row.model, *times, f"{row.rate:.1f}", str(row.requests), str(row.failures))
    console.print(table)
    for line in (*outcome.notes, *(f"missed: {sentence}" for sentence in outcome.missed)):
        console.print(line, markup=False)
    console.print(f"report: {outcome.report}", markup=False)


def _misses(row: Row, objectives: Objectives) -> Iterable[str]:
    if objectives.p99_ms is not None and row.p99_ms > objectives.p99_ms:
        yield f"{row.model}: expected a p99 of at most {objectives.p99_ms:g} ms, found {row.p99_ms:g} ms"
    if objectives.min_rate is not None and row.rate < objectives.min_rate:
        yield f"{row.model}: expected at least {objectives.min_rate:g} answers/s, found {row.rate:.1f}"
    if row.failure_ratio > objectives.max_failure_ratio:
        yield (
            f"{row.model}: expected failures to be at most {objectives.max_failure_ratio:.2%} of the requests, "
            f"found {row.failures} of {row.requests}"
        )


def _row(model: str, requests: int, failures: int, times: Counter[float], took_s: float) -> Row:
    rate = (requests - failures) / took_s if took_s else 0.0
    p50_ms, p95_ms, p99_ms = (_percentile(times, share) for share in (0.50, 0.95, 0.99))
    return Row(model, requests, failures, rate, p50_ms, p95_ms, p99_ms)


def _times(entry: Mapping[str, Any]) -> Counter[float]:
    """How many requests took how many milliseconds; Locust rounds to two digits above 100."""
    return Counter({float(ms): count for ms, count in entry["response_times"].items()})


def _took_s(entries: Sequence[Mapping[str, Any]]) -> float:
    """From the start of the test to its last answer."""
    ends = [e["last_request_timestamp"] for e in entries if e["last_request_timestamp"]]
    return float(max(ends) - min(e["start_time"] for e in entries)) if ends else 0.0


def _percentile(times: Counter[float], share: float) -> float:
    """The smallest time that `share` of the requests did not exceed; 0 without any."""
    wanted = share * times.total()
    for ms, so_far in zip(sorted(times), accumulate(times[ms] for ms in sorted(times)), strict=True):
        if so_far >= wanted:
            return ms
    return 0.0


def _check(url: str, locustfile: Path) -> None:
    if importlib.util.find_spec("locust") is None:
        raise StartFailed("Locust is not installed; install it with: pip install 'headrace[loadtest]'")
    if not locustfile.is_file():
        raise StartFailed(f"no locustfile at {locustfile}; run this in the project's folder, or name one")
    if not _answers(url):
        raise StartFailed(f"no server answers at {url}; start one with: headrace serve")


def _answers(url: str) -> bool:
    """Whether an inference server answers there, ready or not."""
    place = urlsplit(url)
    if place.scheme not in ("http", "https") or not place.netloc:
        raise StartFailed(f"url: expected http://host:port, found {url}")
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    connection = kind(place.netloc, timeout=_REACH_TIMEOUT_S)
    try:
        connection.request("GET", f"{place.path.rstrip('/')}/v2/health/live")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _command(url: str, users: int, duration_s: float, report_dir: Path, locustfile: Path) -> list[str]:
    prefix = str(report_dir / _NAME)
    load = ["--headless", "--host", url.rstrip("/"), "--users", str(users), "--spawn-rate", str(users)]
    length = ["--run-time", f"{max(1, round(duration_s))}s", "--stop-timeout", str(_STOP_TIMEOUT_S)]
    # The CSV files end up to a second before the test does: a failure in that second would pass the gate.
    reports = [
        "--json-file",
        f"{prefix}_stats",
        "--html",
        f"{prefix}.html",
        "--only-summary",
        "--exit-code-on-error",
        "0",
    ]
    return [sys.executable, "-m", "locust", "-f", str(locustfile), *load, *length, *reports]


def _watched(command: Sequence[str], output: int, duration_s: float, console: Console) -> int:
    """Run Locust under a progress bar and give its exit status; it is ended if it goes on for too long."""
    columns = (TextColumn("load test"), BarColumn(), TimeRemainingColumn())
    began_s = time.monotonic()
    with (
        Progress(*columns, console=console, transient=True) as bar,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL) as locust,
    ):
        task = bar.add_task("load test", total=duration_s)
        try:
            while (took_s := time.monotonic() - began_s) < duration_s + _STOP_TIMEOUT_S + _END_TIMEOUT_S:
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
        "ok": outcome.ok,
        "missed": outcome.missed,
        "notes": outcome.notes,
        "total": asdict(outcome.total),
        "models": [asdict(row) for row in outcome.rows],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
