"""The figures of a load test, and the objectives that they miss."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from headrace.config import Objectives
from headrace.loadtest.percentiles import percentiles

__all__ = ["TOTAL", "Row", "missed", "read_rows"]

TOTAL = "all"


@dataclass(frozen=True)
class Row:
    """The figures of a model, or of all models together. `rate` counts answers without failures.

    Percentiles are by nearest rank over all requests, failed ones too. `failure` is the most
    frequent reason.
    """

    model: str
    requests: int
    failures: int
    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    failure: str = ""

    @property
    def failure_ratio(self) -> float:
        return self.failures / self.requests if self.requests else 0.0


def read_rows(record: Path) -> tuple[tuple[Row, ...], Row, float]:
    """Read a `Record`: a row for each model, by name, one for all, and the time that users ran."""
    document = orjson.loads(record.read_bytes())
    models = document["models"]
    took_s = document["took_s"]
    rows = [
        _row(name, models[name]["times_ms"], models[name]["failures"], took_s)
        for name in sorted(models)
    ]
    times = [ms for model in models.values() for ms in model["times_ms"]]
    reasons: Counter[str] = sum(
        (Counter(model["failures"]) for model in models.values()), Counter()
    )
    return tuple(rows), _row(TOTAL, times, reasons, took_s), document["ran_s"]


def missed(rows: Sequence[Row], objectives: Mapping[str, Objectives]) -> list[str]:
    """One sentence for each objective that these figures do not meet."""
    judged = {*objectives, *(row.model for row in rows)}
    silent = judged - {row.model for row in rows if row.requests}
    sentences = [f"{model}: expected requests, found none" for model in sorted(silent)]
    if not rows and not silent:
        sentences.append("expected requests, found none")
    for row in rows:
        sentences += _misses(row, objectives.get(row.model, Objectives()))
    return sentences


def _misses(row: Row, objectives: Objectives) -> Iterable[str]:
    if objectives.p99_ms is not None and row.p99_ms > objectives.p99_ms:
        yield (
            f"{row.model}: expected a p99 of at most {objectives.p99_ms:g} ms, "
            f"found {row.p99_ms:.10g} ms"
        )
    if objectives.min_rate is not None and row.rate < objectives.min_rate:
        yield (
            f"{row.model}: expected at least {objectives.min_rate:g} answers/s, "
            f"found {row.rate:.4g}"
        )
    if row.failure_ratio > objectives.max_failure_ratio:
        yield (
            f"{row.model}: expected failures of at most {objectives.max_failure_ratio:.2%} "
            f"of the requests, found {row.failures} of {row.requests}, "
            f"most often: {row.failure}"
        )


def _row(model: str, times_ms: Sequence[float], reasons: Mapping[str, int], took_s: float) -> Row:
    requests = len(times_ms)
    failures = sum(reasons.values())
    p50_ms, p95_ms, p99_ms = percentiles(times_ms or (0.0,), (50, 95, 99))
    return Row(
        model=model,
        requests=requests,
        failures=failures,
        rate=(requests - failures) / took_s if took_s else 0.0,
        p50_ms=p50_ms,
        p95_ms=p95_ms,
        p99_ms=p99_ms,
        failure=max(reasons, key=lambda reason: reasons[reason], default=""),
    )
