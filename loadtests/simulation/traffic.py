"""Arrivals of requests, their lengths, keys and deadlines: drawn, or read from a trace."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from loadtests.open_loop import poisson_schedule

__all__ = [
    "TRACE_COLUMNS",
    "Arrival",
    "Shape",
    "Traffic",
    "TrafficError",
    "at_rate",
    "draw",
    "read_trace",
]

Shape = Literal["poisson", "bursts"]

TRACE_COLUMNS = ("arrival_s", "length", "owner", "deadline_s")
_MOST_ROWS, _MOST_LENGTH = 1_000_000, 1_000_000


class TrafficError(ValueError):
    """A trace or an option that no traffic can be made of."""


class Arrival(NamedTuple):
    """A request: arrival, length in cells, key, and the seconds after arrival that it may take."""

    arrival_s: float
    length: int
    key_id: str
    deadline_s: float


@dataclass(frozen=True)
class Traffic:
    """Random traffic. Lengths are log-normal with `sigma`, cut at `longest`; 1 makes them all
    alike.

    `bursts` are on for `on_s` and off for as long as makes them `on_share` of the time; the mean
    rate stays. Keys come by their shares, and each of `deadlines_s` as often as another.
    """

    requests: int = 5000
    shape: Shape = "poisson"
    median: int = 16
    sigma: float = 1.0
    longest: int = 256
    keys: Mapping[str, float] = field(default_factory=lambda: {"": 1.0})
    deadlines_s: Sequence[float] = (1.0,)
    on_s: float = 0.5
    on_share: float = 0.5
    seed: int = 0


def draw(traffic: Traffic, rate: float) -> list[Arrival]:
    """Draw requests at a mean `rate`; other rates only space the same ones differently."""
    chance = np.random.default_rng(traffic.seed)
    times_s = poisson_schedule(rate, traffic.requests / rate, traffic.seed)
    if traffic.shape == "bursts":
        times_s = _in_bursts(times_s, traffic.on_s, traffic.on_share)
    count = len(times_s)
    spread = traffic.median * np.exp(traffic.sigma * chance.standard_normal(count))
    lengths: list[int] = np.clip(np.round(spread), 1, traffic.longest).astype(int).tolist()
    shares = np.array(list(traffic.keys.values()))
    keys = [
        list(traffic.keys)[n] for n in chance.choice(len(shares), count, p=shares / shares.sum())
    ]
    deadlines_s: list[float] = chance.choice(list(traffic.deadlines_s), count).tolist()
    return list(map(Arrival, times_s, lengths, keys, deadlines_s))


def _in_bursts(times_s: Iterable[float], on_s: float, on_share: float) -> list[float]:
    """The same times with all of them in the parts that are on."""
    busy = (divmod(t * on_share, on_s) for t in times_s)
    return [whole * on_s / on_share + rest for whole, rest in busy]


def at_rate(trace: Sequence[Arrival], rate: float) -> list[Arrival]:
    """The trace sped up, or slowed down, to this mean rate."""
    factor = rate_of(trace) / rate
    return [arrival._replace(arrival_s=arrival.arrival_s * factor) for arrival in trace]


def rate_of(trace: Sequence[Arrival]) -> float:
    """Requests a second, on average."""
    return len(trace) / trace[-1].arrival_s


def read_trace(path: Path) -> list[Arrival]:
    """A CSV file with the columns TRACE_COLUMNS under a header; the first request comes at 0 then.
    Raises TrafficError.

    `arrival_s` may have any origin, in any order; `length` is in cells, tokens for a text; `owner`
    is any name, or empty; `deadline_s` is counted from the arrival.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if missing := set(TRACE_COLUMNS) - set(rows.fieldnames or ()):
                raise TrafficError(
                    f"{path}: expected the columns {', '.join(TRACE_COLUMNS)}, found no "
                    f"{min(missing)}"
                )
            found = [
                _arrival(row, f"{path}, row {n}")
                for n, row in enumerate(rows, 1)
                if _is_within(n, path)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrafficError(f"{path}: cannot be read: {error}") from None
    found.sort()
    if not found or found[0].arrival_s == found[-1].arrival_s:
        raise TrafficError(
            f"{path}: expected requests at two times at least, found {len(found)} requests"
        )
    return [arrival._replace(arrival_s=arrival.arrival_s - found[0].arrival_s) for arrival in found]


def _is_within(row: int, path: Path) -> bool:
    if row > _MOST_ROWS:
        raise TrafficError(f"{path}: expected at most {_MOST_ROWS} requests, found more")
    return True


def _arrival(row: Mapping[str, str | None], where: str) -> Arrival:
    try:
        arrival = Arrival(
            float(row["arrival_s"] or ""),
            int(row["length"] or ""),
            row["owner"] or "",
            float(row["deadline_s"] or ""),
        )
    except ValueError:
        raise TrafficError(
            f"{where}: expected numbers but for the owner, found {list(row.values())}"
        ) from None
    if (
        not isfinite(arrival.arrival_s)
        or not 1 <= arrival.length <= _MOST_LENGTH
        or not 0 < arrival.deadline_s < 1e9
    ):
        raise TrafficError(
            f"{where}: expected a length of at least 1 and a deadline above 0, found {arrival}"
        )
    return arrival
