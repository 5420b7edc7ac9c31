"""The operator's threads, with neither Ray nor a fleet behind them."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.operation.repository import Shelf
from tests.operation.test_operator import Platform

from headrace.fleet import calls
from headrace.fleet.entries import Fleet
from headrace.fleet.instructions import Instruction, Lane, Outcome
from headrace.operation.operator import Operator
from headrace.operation.workers import operating
from headrace.telemetry import logs
from headrace_models.repository import ModelVersion, scan


class Absent(Platform):
    """Serve, which does not answer at first."""

    def given_up(self, versions: Sequence[ModelVersion]) -> list[ModelVersion]:
        if not self.looks:
            self.looks += 1
            raise RuntimeError("the controller is gone")
        return super().given_up(versions)


class Impatient(threading.Event):
    """Says at once that it is not set."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002
        return self.is_set()


def test_a_lane_that_failed_goes_on_with_its_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf, platform, settled = Shelf(tmp_path), Absent(), threading.Event()
    shelf.add("m", "1")

    def take(lane: Lane, timeout_s: float) -> Instruction | None:
        settled.wait(timeout_s if lane == "look" else 0)
        return Instruction("load", "m") if lane == "change" and not settled.is_set() else None

    def settle(order: Instruction, outcome: Outcome) -> None:
        assert (order.model, outcome.code) == ("m", "")
        settled.set()

    monkeypatch.setattr(logs, "apply", lambda settings: None)  # noqa: ARG005
    monkeypatch.setattr(calls, "expect_models", lambda models: None)  # noqa: ARG005
    monkeypatch.setattr(calls, "read_fleet", lambda: Fleet(1, ("m",), (), ()))
    monkeypatch.setattr(calls, "close_instructions", lambda: None)
    monkeypatch.setattr(calls, "take_instruction", take)
    monkeypatch.setattr(calls, "resolve_instruction", settle)
    versions, _ = scan(shelf.root)
    for version in versions:
        platform.deploy(version)
        platform.wait_until_running(version)
    with operating(Operator(shelf.root, platform, platform, versions, {}), Impatient()):
        assert settled.wait(30)
    assert platform.looks > 0
