"""A host's judgement of a stopped run: if the model is sound, and who is to blame."""

from collections.abc import Mapping
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from tests.channel.replicas import until
from tests.replica.loops import ENDLESS, patient_loop

from headrace.backends.onnx import OnnxBackend
from headrace.errors import DeadlineExceeded, RunStopped
from headrace.inference.request import Request
from headrace.inference.tensor import Array, from_array
from headrace.replica.host import Host
from headrace.telemetry.events import ReplicaEvents
from headrace_models.repository import ModelVersion, read_version


class Sick:
    """The real backend of `loop`; once it is sick it ends on nothing."""

    device = "cpu"
    lanes = 1

    def __init__(self, version: ModelVersion) -> None:
        self._real = OnnxBackend(version)
        self.is_sick = False

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return self._real.run({"x": np.full_like(inputs["x"], ENDLESS)} if self.is_sick else inputs)

    def stop(self, thread: int) -> None:
        self._real.stop(thread)


async def test_a_model_that_does_not_end_on_its_golden_row_is_not_ready(tmp_path: Path) -> None:
    version = read_version(patient_loop(tmp_path, tmp_path / "repository", max_run_s=0.2))
    made: list[Sick] = []

    def load(version: ModelVersion, _: str) -> Sick:
        made.append(Sick(version))
        return made[0]

    async with Host(version, "onnx", ReplicaEvents(), load) as host:
        assert host.health().is_ready
        made[0].is_sick = True
        with pytest.raises(RunStopped) as caught:
            await host.infer(
                Request([from_array("x", np.ones((1, 4), np.int64))], (), monotonic() + 10)
            )
        assert caught.value.blame == "certain"
        await until(lambda: not host.health().is_ready, 10.0)
        made[0].is_sick = False
        await host.infer(
            Request([from_array("x", np.ones((1, 4), np.int64))], (), monotonic() + 10)
        )
        assert host.health().is_ready


async def test_a_sound_model_stays_ready_though_an_input_did_not_let_it_end(tmp_path: Path) -> None:
    version = read_version(patient_loop(tmp_path, tmp_path / "repository", max_run_s=0.2))
    async with Host(version, "onnx", ReplicaEvents()) as host:
        with pytest.raises(RunStopped):
            await host.infer(
                Request([from_array("x", np.full((1, 4), ENDLESS))], (), monotonic() + 10)
            )
        await host.infer(
            Request([from_array("x", np.ones((1, 4), np.int64))], (), monotonic() + 10)
        )
        assert host.health().is_ready


async def test_a_run_whose_callers_time_is_over_is_stopped_and_blames_nobody(
    tmp_path: Path,
) -> None:
    version = read_version(patient_loop(tmp_path, tmp_path / "repository", max_run_s=60.0))
    async with Host(version, "onnx", ReplicaEvents()) as host:
        with pytest.raises(DeadlineExceeded):
            await host.infer(
                Request([from_array("x", np.full((1, 4), ENDLESS))], (), monotonic() + 0.1)
            )
        await host.infer(
            Request([from_array("x", np.ones((1, 4), np.int64))], (), monotonic() + 10)
        )
