"""Waiting and trouble through a real gateway, channel and host."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform

from headrace.fleet.entries import Fleet, ReplicaEntry, Trouble

ROW = np.ones((1, 4), np.float32)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    with in_process_platform(tmp_path_factory.mktemp("plain")) as running:
        yield running


def tell(running: InProcessPlatform, entries: tuple[ReplicaEntry, ...], *troubles: Trouble) -> None:
    told = threading.Event()

    def update() -> None:
        running.gateway.update(Fleet(2, ("doubler",), entries, (), troubles=troubles))
        told.set()

    running.gateway_thread.call(update)
    assert told.wait(10)


def test_a_request_is_read_and_waits_while_the_only_replica_is_replaced(
    running: InProcessPlatform,
) -> None:
    tell(running, ())
    assert running.ask("GET", "/v2/models/doubler/ready")[0] == 503
    assert running.ask("GET", "/v2/health/ready")[0] == 503
    assert running.ask("GET", "/v2/models/doubler")[0] == 200
    answers: list[int] = []
    asking = [
        threading.Thread(target=lambda: answers.append(running.infer(ROW)[0])) for _ in range(8)
    ]
    for one in asking:
        one.start()
    bad = running.ask("POST", "/v2/models/doubler/infer", b'{"inputs": []}')
    assert bad[0] == 400  # nobody waits to be told that
    tell(running, (running.entry,))
    for one in asking:
        one.join(20)
    assert answers == [200] * 8


def test_trouble_is_said_at_once_with_its_reason_and_only_where_it_is(
    running: InProcessPlatform, tmp_path: Path
) -> None:
    trouble = Trouble("doubler", "1", "its process ended unexpectedly; 3 times recently")
    tell(running, (), trouble)
    for status, body, headers in (
        running.infer(ROW),
        running.ask("GET", "/v2/models/doubler/ready"),
    ):
        assert (status, body["code"], headers["retry-after"]) == (503, "model_not_ready", "30")
        assert body["error"] == f'model "doubler" is not ready: {trouble.reason}'
    _, document, _ = running.ask("GET", "/v1/models/doubler")
    (state,) = document["model_version_status"]
    assert (document["ready"], state["status"]["error_message"]) == (False, trouble.reason)
    tell(running, (running.entry,))
    assert running.infer(ROW)[0] == 200
    assert running.ask("GET", "/v2/health/ready")[0] == 200
