"""One policy under one load: arrivals, choice of a replica, batches, and the count of it all."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
from loadtests.simulation.executors import Executor, Preset
from loadtests.simulation.policies import Policy, Queue, Seen
from loadtests.simulation.traffic import Arrival
from loadtests.support.virtual_time import run

from headrace.errors import HeadraceError
from headrace.gateway.routing.version import least_busy
from headrace.loadtest.percentiles import percentiles

__all__ = ["Machines", "Trial", "play"]

K = TypeVar("K", str, float)


@dataclass(frozen=True)
class Machines:
    """So many replicas, each with an executor of its own."""

    preset: Preset
    replicas: int = 1
    noise: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Trial:
    """Figures of one run. Shares are of all requests, so that a refusal counts as a miss.

    `goodput` and `in_time` are of those answered within their deadlines, `met` of those answered
    within the objective. Latencies are of those that were answered.
    """

    offered: float
    throughput: float
    goodput: float
    p50_s: float
    p99_s: float
    in_time: float
    met: float
    refused: float
    mean_rows: float
    padding: float
    in_time_by_key: dict[str, float]
    in_time_by_deadline: dict[float, float]


@dataclass
class _Replica:
    line: Queue
    outstanding: int = 0


@dataclass
class _Ledger:
    """Every request once, with its latency; infinite for one that was not answered."""

    results: list[tuple[Arrival, float]] = field(default_factory=list)
    refused: int = 0
    last_s: float = 0.0


def play(policy: Policy, arrivals: Sequence[Arrival], machines: Machines) -> Trial:
    """Let these requests come, on a clock of their own, and count when each has its result."""
    executors = [
        Executor(machines.preset, policy.padded, machines.noise, machines.seed + n)
        for n in range(machines.replicas)
    ]
    ledger = run(_serve(policy, arrivals, executors, _warmed_up(policy, arrivals, machines.preset)))
    return _counted(arrivals, ledger, executors, machines.preset.objective_s)


def _warmed_up(policy: Policy, arrivals: Sequence[Arrival], preset: Preset) -> list[Seen]:
    """One row and a full batch of a usual length."""
    length = sorted(arrival.length for arrival in arrivals)[len(arrivals) // 2]
    cells = policy.padded(length)
    return [
        Seen(rows, length, preset.seconds(rows * cells)) for rows in (1, policy.limits.max_rows)
    ]


async def _serve(
    policy: Policy, arrivals: Sequence[Arrival], executors: Sequence[Executor], seen: Sequence[Seen]
) -> _Ledger:
    clock = asyncio.get_running_loop().time
    ledger = _Ledger()
    async with AsyncExitStack() as stack:
        replicas = [_Replica(policy.line(executor, clock, seen)) for executor in executors]
        for replica in replicas:
            await stack.enter_async_context(replica.line)
        for arrival in arrivals:
            if (wait_s := arrival.arrival_s - clock()) > 0:
                await asyncio.sleep(wait_s)
            _ask(policy, least_busy(replicas), arrival, ledger)
        for replica in replicas:
            await replica.line.drain()
        await asyncio.sleep(0)  # the last answers' callbacks
        ledger.last_s = clock()
    return ledger


def _ask(policy: Policy, replica: _Replica, arrival: Arrival, ledger: _Ledger) -> None:
    length, group = policy.told(arrival.length)
    deadline_s = arrival.arrival_s + arrival.deadline_s
    try:
        answer = replica.line.submit(
            arrival.length,
            rows=1,
            nbytes=1,
            deadline_s=deadline_s,
            length=length,
            group=group,
            key_id=arrival.key_id,
        )
    except HeadraceError:
        ledger.refused += 1
        ledger.results.append((arrival, float("inf")))
        return
    replica.outstanding += 1
    answer.add_done_callback(partial(_settle, replica, arrival, ledger))


def _settle(
    replica: _Replica, arrival: Arrival, ledger: _Ledger, answer: "asyncio.Future[Any]"
) -> None:
    replica.outstanding -= 1
    is_answered = not answer.cancelled() and answer.exception() is None
    took_s = asyncio.get_running_loop().time() - arrival.arrival_s
    ledger.results.append((arrival, took_s if is_answered else float("inf")))


def _counted(
    arrivals: Sequence[Arrival], ledger: _Ledger, executors: Sequence[Executor], objective_s: float
) -> Trial:
    took_s = np.array([latency_s for _, latency_s in ledger.results])
    is_in_time = took_s <= np.array([arrival.deadline_s for arrival, _ in ledger.results])
    answered_s = took_s[np.isfinite(took_s)]
    p50_s, p99_s = percentiles(answered_s, (50, 99))
    rows, batches = sum(e.rows for e in executors), sum(e.batches for e in executors)
    cells, real_cells = sum(e.cells for e in executors), sum(e.real_cells for e in executors)
    return Trial(
        offered=len(arrivals) / arrivals[-1].arrival_s,
        throughput=len(answered_s) / ledger.last_s,
        goodput=float(is_in_time.sum()) / ledger.last_s,
        p50_s=p50_s,
        p99_s=p99_s,
        in_time=float(is_in_time.mean()),
        met=float((took_s <= objective_s).mean()),
        refused=ledger.refused / len(arrivals),
        mean_rows=rows / max(batches, 1),
        padding=1 - real_cells / max(cells, 1),
        in_time_by_key=_shares(
            [arrival.key_id for arrival, _ in ledger.results], is_in_time.tolist()
        ),
        in_time_by_deadline=_shares(
            [arrival.deadline_s for arrival, _ in ledger.results], is_in_time.tolist()
        ),
    )


def _shares(keys: Sequence[K], hits: Sequence[bool]) -> dict[K, float]:
    found: defaultdict[K, list[bool]] = defaultdict(list)
    for key, hit in zip(keys, hits, strict=True):
        found[key].append(hit)
    return {key: sum(of_key) / len(of_key) for key, of_key in sorted(found.items())}
