"""A host with a real, tiny model: it starts only if its golden answers are right, and drains."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from loadtests.support.doubler import make_doubler
from tests.conformance.small_models import make_accumulator

from headrace import backends
from headrace.errors import InferenceFailed, ShuttingDown, StartFailed
from headrace.inference.request import Answer, Request, SequenceStep
from headrace.inference.tensor import from_array, to_array
from headrace.replica.host import Host
from headrace.telemetry.events import ReplicaEvents
from headrace_models.repository import ModelVersion, read_version


@pytest.fixture
def version(tmp_path: Path) -> ModelVersion:
    return read_version(make_doubler(tmp_path, tmp_path / "repository"))


def ask(rows: "np.ndarray") -> Request:
    return Request([from_array("x", rows)], (), monotonic() + 10)


async def test_rows_of_many_requests_come_back_to_their_own(version: ModelVersion) -> None:
    async with Host(version, "onnx", ReplicaEvents()) as host:
        asked = [np.full((1 + n % 5, 4), n, np.float32) for n in range(40)]
        answers = await asyncio.gather(*(host.infer(ask(rows)) for rows in asked))
    for rows, answer in zip(asked, answers, strict=True):
        np.testing.assert_array_equal(to_array(answer.outputs[0]), rows * 2)


async def test_a_request_larger_than_a_batch_is_put_together_again(version: ModelVersion) -> None:
    rows = np.arange(1000 * 4, dtype=np.float32).reshape(1000, 4)
    async with Host(version, "onnx", ReplicaEvents()) as host:
        answer = await host.infer(ask(rows))
    np.testing.assert_array_equal(to_array(answer.outputs[0]), rows * 2)
    assert answer.times.batch_rows <= version.spec.batching.max_rows


class Broken:
    """A backend whose answers are changed by a function."""

    device = "cpu"
    lanes = 1

    def __init__(self, version: ModelVersion, name: str) -> None:
        self._real = backends.load(version, name)
        self.is_broken = True

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        outputs = dict(self._real.run(inputs))
        return {name: array[:-1] if self.is_broken else array for name, array in outputs.items()}


class OffByABit(Broken):
    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: array + 0.01 for name, array in self._real.run(inputs).items()}


async def test_a_wrong_golden_answer_refuses_to_start(version: ModelVersion) -> None:
    with pytest.raises(
        StartFailed, match=r'golden output "y": expected within 0.0001, found a difference of 0.01'
    ):
        async with Host(version, "onnx", ReplicaEvents(), OffByABit):
            pass


async def test_an_answer_with_rows_missing_fails_its_batch_and_the_host_lives_on(
    version: ModelVersion,
) -> None:
    made: list[Broken] = []

    def load(version: ModelVersion, name: str) -> Broken:
        made.append(Broken(version, name))
        made[0].is_broken = False
        return made[0]

    rows = np.ones((2, 4), np.float32)
    async with Host(version, "onnx", ReplicaEvents(), load) as host:
        made[0].is_broken = True
        with pytest.raises(InferenceFailed, match="1 rows"):
            await host.infer(ask(rows))
        made[0].is_broken = False
        assert (await host.infer(ask(rows))).outputs[0].shape == (2, 4)


class TwoLanes(Broken):
    """A backend of two lanes; once armed, each batch waits in it for another one."""

    lanes = 2

    def __init__(self, version: ModelVersion, name: str) -> None:
        super().__init__(version, name)
        self.is_broken = False
        self.is_armed = False
        self.meet = threading.Barrier(2)
        self.loaded_in = threading.current_thread()
        self.ran_in: list[threading.Thread] = []
        self._one = threading.Lock()  # of the real one's lanes

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        self.ran_in.append(threading.current_thread())
        if self.is_armed:
            self.meet.wait(5)
        with self._one:
            return super().run(inputs)


@asynccontextmanager
async def on_two_lanes(version: ModelVersion) -> AsyncIterator[tuple[Host, TwoLanes]]:
    made: list[TwoLanes] = []

    def load(version: ModelVersion, name: str) -> TwoLanes:
        made.append(TwoLanes(version, name))
        return made[0]

    async with Host(version, "onnx", ReplicaEvents(), load) as host:
        yield host, made[0]


async def two_full_batches(host: Host) -> Sequence[Answer]:
    full = np.ones((host.spec.batching.max_rows, 4), np.float32)
    return await asyncio.gather(*(host.infer(ask(n * full)) for n in (1, 2)))


async def test_a_backend_of_two_lanes_has_two_batches_at_a_time(version: ModelVersion) -> None:
    async with on_two_lanes(version) as (host, backend):
        backend.is_armed = True
        answers = await two_full_batches(host)
    assert [float(to_array(answer.outputs[0])[0, 0]) for answer in answers] == [2, 4]


async def test_a_backend_of_two_lanes_warms_up_in_a_thread_that_serves(
    version: ModelVersion,
) -> None:
    async with on_two_lanes(version) as (host, backend):
        warmed_up_in = set(backend.ran_in)
        backend.ran_in.clear()
        backend.is_armed = True
        await two_full_batches(host)
        backend.is_armed = False
    (thread,) = warmed_up_in
    assert thread in backend.ran_in
    assert thread is not backend.loaded_in
    prefix = f"model-{version.spec.name}_"
    assert all(each.name.startswith(prefix) for each in backend.ran_in)


async def test_a_drained_host_refuses_and_has_settled_all(version: ModelVersion) -> None:
    async with Host(version, "onnx", ReplicaEvents()) as host:
        accepted = [
            asyncio.ensure_future(host.infer(ask(np.ones((1, 4), np.float32)))) for _ in range(50)
        ]
        await asyncio.sleep(0)
        await host.drain()
        results = await asyncio.gather(*accepted, return_exceptions=True)
        assert all(not isinstance(r, BaseException) or isinstance(r, ShuttingDown) for r in results)
        with pytest.raises(ShuttingDown):
            await host.infer(ask(np.ones((1, 4), np.float32)))


@pytest.fixture
def accumulator(tmp_path: Path) -> ModelVersion:
    return read_version(make_accumulator(tmp_path, tmp_path / "repository"))


def step(number: float, sequence_id: str, *, starts: bool = False, ends: bool = False) -> Request:
    rows = np.array([[number, -number]], np.float32)
    sequence = SequenceStep(sequence_id, starts, ends)
    return Request([from_array("x", rows)], ["total"], monotonic() + 10, sequence=sequence)


async def test_steps_of_many_sequences_share_batches_and_each_has_its_own_state(
    accumulator: ModelVersion,
) -> None:
    async with Host(accumulator, "onnx", ReplicaEvents()) as host:
        for n in range(4):
            steps = [host.infer(step(10**n * s, str(s), starts=not n)) for s in range(1, 10)]
            answers = await asyncio.gather(*steps)
        assert max(answer.times.batch_rows for answer in answers) > 1
    totals = [to_array(answer.outputs[0])[0].tolist() for answer in answers]
    assert totals == [[1111.0 * s, -1111.0 * s] for s in range(1, 10)]


async def test_a_step_that_the_model_fails_on_leaves_its_sequence_as_it_was(
    accumulator: ModelVersion,
) -> None:
    made: list[Broken] = []

    def load(version: ModelVersion, name: str) -> Broken:
        made.append(Broken(version, name))
        made[0].is_broken = False
        return made[0]

    async with Host(accumulator, "onnx", ReplicaEvents(), load) as host:
        await host.infer(step(1, "1", starts=True))
        made[0].is_broken = True
        with pytest.raises(InferenceFailed):
            await host.infer(step(2, "1"))
        made[0].is_broken = False
        answer = await host.infer(step(2, "1", ends=True))
    assert to_array(answer.outputs[0])[0].tolist() == [3.0, -3.0]


async def test_a_request_outside_of_sequences_starts_from_zeros(accumulator: ModelVersion) -> None:
    async with Host(accumulator, "onnx", ReplicaEvents()) as host:
        for _ in range(2):
            answer = await host.infer(
                Request([from_array("x", np.ones((3, 2), np.float32))], (), monotonic() + 10)
            )
            assert to_array(answer.outputs[0]).tolist() == [[1, 1]] * 3
