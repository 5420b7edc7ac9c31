"""A replica's statistics: requests, rows, executions and their times, as in the protocol."""

import asyncio
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from loadtests.support.doubler import make_doubler
from loadtests.support.gated_backend import GatedBackend, GateLoader

from headrace.errors import DeadlineExceeded, InferenceFailed, ShuttingDown
from headrace.gateway.api.statistics import statistics_document
from headrace.inference.request import Request
from headrace.inference.statistics import (
    BatchStats,
    Duration,
    InferenceStats,
    Statistics,
    merge,
)
from headrace.inference.tensor import from_array
from headrace.replica.host import Host
from headrace.telemetry.events import ReplicaEvents
from headrace_models.repository import ModelVersion, read_version

STAGES = ("compute_input", "compute_infer", "compute_output")


@pytest.fixture
def version(tmp_path: Path) -> ModelVersion:
    return read_version(make_doubler(tmp_path, tmp_path / "repository"))


def ask(rows: int, *, seconds: float = 10) -> Request:
    return Request([from_array("x", np.ones((rows, 4), np.float32))], (), monotonic() + seconds)


@pytest.fixture
def load() -> GateLoader:
    return GateLoader()


async def test_a_fresh_replica_has_done_nothing_though_it_proved_itself(
    version: ModelVersion,
) -> None:
    async with Host(version, "onnx", ReplicaEvents()) as host:
        assert host.statistics() == Statistics()


async def test_a_request_of_a_whole_batch_counts_once_and_its_rows_all(
    version: ModelVersion,
) -> None:
    async with Host(version, "onnx", ReplicaEvents()) as host:
        await host.infer(ask(64))
        counted = host.statistics()
    stats = counted.inference_stats
    assert (counted.inference_count, counted.execution_count, stats.success.count, stats.fail) == (
        64,
        1,
        1,
        Duration(),
    )
    assert [(b.batch_size, b.compute_infer.count) for b in counted.batch_stats] == [(64, 1)]
    assert all(
        getattr(stats, stage).count == 1 and getattr(stats, stage).ns > 0
        for stage in ("queue", *STAGES)
    )
    assert counted.last_inference > 1.7e12


async def test_a_request_of_several_batches_counts_once(version: ModelVersion) -> None:
    async with Host(version, "onnx", ReplicaEvents()) as host:
        await host.infer(ask(150))
        counted = host.statistics()
    stats = counted.inference_stats
    assert (counted.inference_count, counted.execution_count) == (150, 3)
    assert {getattr(stats, name).count for name in ("success", "queue", *STAGES)} == {1}
    assert [(b.batch_size, b.compute_infer.count) for b in counted.batch_stats] == [
        (22, 1),
        (64, 2),
    ]
    for stage in STAGES[:2]:
        assert getattr(stats, stage).ns == sum(getattr(b, stage).ns for b in counted.batch_stats)


async def test_the_parts_of_a_requests_time_are_no_more_than_the_whole(
    version: ModelVersion,
) -> None:
    async with Host(version, "onnx", ReplicaEvents()) as host:
        for rows in (1, 64, 150):
            await host.infer(ask(rows))
        stats = host.statistics().inference_stats
    assert stats.queue.ns + sum(getattr(stats, stage).ns for stage in STAGES) <= stats.success.ns


async def test_requests_that_share_a_batch_share_its_execution(
    version: ModelVersion, load: GateLoader
) -> None:
    async with Host(version, "onnx", ReplicaEvents(), load) as host:
        first = await inside(host, load.backend)
        mates = [asyncio.create_task(host.infer(ask(2))) for _ in range(5)]
        await asyncio.sleep(0)
        load.backend.open()
        await asyncio.gather(first, *mates)
        counted = host.statistics()
    assert (
        counted.inference_count,
        counted.execution_count,
        counted.inference_stats.success.count,
    ) == (11, 2, 6)
    assert [(b.batch_size, b.compute_infer.count) for b in counted.batch_stats] == [(1, 1), (10, 1)]
    assert counted.inference_stats.compute_infer.count == 6


async def inside(host: Host, backend: GatedBackend) -> "asyncio.Task[Any]":
    """A request that is inside the model, whose gate is shut."""
    backend.shut()
    asked = asyncio.create_task(host.infer(ask(1)))
    assert await asyncio.to_thread(backend.entered.wait, 5)
    return asked


async def test_what_failed_counts_as_failed_and_nowhere_else(
    version: ModelVersion, load: GateLoader
) -> None:
    async with Host(version, "onnx", ReplicaEvents(), load) as host:
        first = await inside(host, load.backend)
        withdrawn = asyncio.create_task(host.infer(ask(3)))
        await asyncio.sleep(0)
        withdrawn.cancel()
        await asyncio.gather(withdrawn, return_exceptions=True)
        load.backend.open()
        await first
        with pytest.raises(DeadlineExceeded):
            await host.infer(ask(3, seconds=-1))
        load.backend.is_broken = True
        with pytest.raises(InferenceFailed):
            await host.infer(ask(3))
        counted = host.statistics()
    assert counted.inference_stats.fail.count == 3
    assert (
        counted.inference_count,
        counted.execution_count,
        counted.inference_stats.success.count,
    ) == (1, 1, 1)


async def test_what_a_draining_replica_refuses_is_not_its_failure(version: ModelVersion) -> None:
    async with Host(version, "onnx", ReplicaEvents()) as host:
        await host.drain()
        with pytest.raises(ShuttingDown):
            await host.infer(ask(1))
        assert host.statistics() == Statistics()


def counted(seed: int, *sizes: int) -> Statistics:
    def duration(place: int) -> Duration:
        return Duration(seed + place, 10 * seed + place)

    names = InferenceStats.__struct_fields__
    return Statistics(
        last_inference=seed,
        inference_count=seed,
        execution_count=2 * seed,
        inference_stats=InferenceStats(
            **{name: duration(place) for place, name in enumerate(names)}
        ),
        batch_stats=tuple(
            BatchStats(batch_size=size, compute_infer=duration(size)) for size in sizes
        ),
    )


def test_what_several_replicas_did_adds_up() -> None:
    together = merge([counted(1, 2, 8), counted(5, 1, 8), counted(3)])
    assert (together.last_inference, together.inference_count, together.execution_count) == (
        5,
        9,
        18,
    )
    assert (together.inference_stats.success, together.inference_stats.fail) == (
        Duration(9, 90),
        Duration(12, 93),
    )
    assert [(b.batch_size, b.compute_infer) for b in together.batch_stats] == [
        (1, Duration(6, 51)),
        (2, Duration(3, 12)),
        (8, Duration(22, 76)),
    ]
    assert merge([]) == Statistics()


def test_a_document_has_every_member_that_a_client_reads_unasked() -> None:
    document = statistics_document("m", "1", counted(1, 4))
    assert orjson.loads(orjson.dumps(document))["batch_stats"][0]["batch_size"] == 4
    assert document.keys() == {
        "name",
        "version",
        "last_inference",
        "inference_count",
        "execution_count",
        "inference_stats",
        "response_stats",
        "batch_stats",
        "memory_usage",
    }
    fresh = msgspec.convert(
        statistics_document("m", "1", Statistics())["inference_stats"], dict[str, dict[str, int]]
    )
    names = {"success", "fail", "queue", *STAGES, "cache_hit", "cache_miss"}
    assert fresh == {name: {"count": 0, "ns": 0} for name in names}
