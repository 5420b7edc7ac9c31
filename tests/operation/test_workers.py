"""The operator's threads, without Ray and without a fleet."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.operation.repository import RepositoryFolder
from tests.operation.test_operator import FakePlatform

from headrace.fleet import calls
from headrace.fleet.entries import Fleet
from headrace.fleet.instructions import Instruction, QueueName, Result
from headrace.operation.operator import Operator
from headrace.operation.workers import operating
from headrace.telemetry import logs
from headrace_models.repository import ModelVersion, scan


class SlowToAnswer(FakePlatform):
    """A Serve that does not answer at first."""

    def given_up(self, versions: Sequence[ModelVersion]) -> list[ModelVersion]:
        if not self.looks:
            self.looks += 1
            raise RuntimeError("the controller is gone")
        return super().given_up(versions)


class NeverWaiting(threading.Event):
    """Answers at once, without a wait."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002
        return self.is_set()


def test_a_worker_that_failed_goes_on_with_its_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, platform, resolved = RepositoryFolder(tmp_path), SlowToAnswer(), threading.Event()
    repository.add("m", "1")

    def take(queue: QueueName, timeout_s: float) -> Instruction | None:
        resolved.wait(timeout_s if queue == "index" else 0)
        return Instruction("load", "m") if queue == "change" and not resolved.is_set() else None

    def resolve(instruction: Instruction, result: Result) -> None:
        assert (instruction.model, result.code) == ("m", "")
        resolved.set()

    monkeypatch.setattr(logs, "apply", lambda settings: None)  # noqa: ARG005
    monkeypatch.setattr(calls, "expect_models", lambda models: None)  # noqa: ARG005
    monkeypatch.setattr(calls, "read_fleet", lambda: Fleet(1, ("m",), (), ()))
    monkeypatch.setattr(calls, "close_instructions", lambda: None)
    monkeypatch.setattr(calls, "take_instruction", take)
    monkeypatch.setattr(calls, "resolve_instruction", resolve)
    versions, _ = scan(repository.root)
    for version in versions:
        platform.deploy(version)
        platform.wait_until_running(version)
    with operating(Operator(repository.root, platform, platform, versions, {}), NeverWaiting()):
        assert resolved.wait(30)
    assert platform.looks > 0
