"""Vital signs that a bad request must not change: processes, memory, answers, error counts."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic

import orjson
from loadtests.support.metrics import samples
from loadtests.support.proc import status_bytes
from tests.platform.running import Platform

__all__ = ["Vitals", "grown", "live_s", "take", "until"]

_GOLDEN_PATH = "/v2/models/dga-lstm/infer"
_GOLDEN = {
    "inputs": [
        {
            "name": "text",
            "datatype": "BYTES",
            "shape": [2],
            "data": ["wikipedia.org", "xkqjzvbwpt.com"],
        }
    ]
}
_PATIENCE_S = 1.0


@dataclass(frozen=True)
class Vitals:
    """A platform at one moment: memory by process, errors by code, a golden answer's bytes."""

    pids: frozenset[int]
    rss_bytes: Mapping[int, int]
    errors: Mapping[str, int]
    golden: bytes


def take(platform: Platform) -> Vitals:
    processes = platform.health()["processes"]
    pids = frozenset(int(process["pid"]) for process in processes)
    watched = [
        int(process["pid"]) for process in processes if process["role"] in ("gateway", "replica")
    ]
    status, golden = platform.ask("POST", _GOLDEN_PATH, orjson.dumps(_GOLDEN))
    assert status == 200, golden
    return Vitals(
        pids, {pid: status_bytes(pid, "VmRSS") for pid in watched}, errors(platform), golden
    )


def grown(before: Mapping[int, int]) -> dict[int, int]:
    """The bytes by which each process has grown."""
    return {pid: status_bytes(pid, "VmRSS") - rss_bytes for pid, rss_bytes in before.items()}


def live_s(platform: Platform) -> float:
    """The time of a liveness probe."""
    began_s = monotonic()
    assert platform.ask("GET", "/v2/health/live")[0] == 200
    return monotonic() - began_s


def errors(platform: Platform) -> Counter[str]:
    """Errors answered so far by code, over all processes that speak HTTP to callers."""
    groups = orjson.loads(platform.ask("GET", "/sd", admin=True)[1])
    targets = [
        group["targets"][0] for group in groups if group["labels"]["role"] in ("gateway", "admin")
    ]
    counted: Counter[str] = Counter()
    for target in targets:
        for sample in samples(target):
            if sample.name == "headrace_errors_total" and sample.value:
                counted[sample.labels["code"]] += int(sample.value)
    return counted


def until(is_so: Callable[[], bool]) -> bool:
    """Poll other processes; true if the condition comes to hold in bounded time."""
    deadline_s = monotonic() + _PATIENCE_S
    while not (found := is_so()) and monotonic() < deadline_s:
        pass
    return found
