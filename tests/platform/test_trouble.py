"""A model that is killed again and again: reported with the reason, ended by the operator."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
from loadtests.support.checkout import REPOSITORY
from tests.platform.running import Platform, command, platform

pytestmark = [pytest.mark.ray, pytest.mark.zoo]

SICK, SOUND = "dga-lstm", "silero-vad"
KILLS = 6
WAIT_S = 90.0
STEP = orjson.dumps(
    {
        "inputs": [
            {"name": "input", "shape": [1, 576], "datatype": "FP32", "data": [0.0] * 576},
        ]
    }
)


@pytest.fixture(scope="module")
def both() -> Iterator[Platform]:
    for model in (SICK, SOUND):
        if not (REPOSITORY / model).is_dir():
            pytest.skip(f"{REPOSITORY} lacks {model}: run headrace models build")
    with platform("--model", SICK, "--model", SOUND) as running:
        yield running


def replicas(running: Platform, model: str) -> set[int]:
    health = running.health()
    ids = {replica["id"] for replica in health["replicas"] if replica["model"] == model}
    return {int(process["pid"]) for process in health["processes"] if process["id"] in ids}


def next_replica(running: Platform, killed: set[int]) -> int:
    deadline_s = time.monotonic() + WAIT_S
    while not (alive := replicas(running, SICK) - killed):
        assert time.monotonic() < deadline_s, f"another replica within {WAIT_S} s"
    return alive.pop()


def index_entry(running: Platform) -> Any:
    status, body = running.ask("POST", "/v2/repository/index", admin=True)
    assert status == 200, body
    return next(entry for entry in orjson.loads(body) if entry["name"] == SICK)


@contextmanager
def watching(running: Platform, answers: list[tuple[str, int]]) -> Iterator[None]:
    """Ask the sound model and whether the server is ready, all the time, and note what is said."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            answers.append(("ready", running.ask("GET", "/v2/health/ready")[0]))
            answers.append((SOUND, running.ask("POST", f"/v2/models/{SOUND}/infer", STEP)[0]))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_model_that_ends_again_and_again_is_its_own_trouble_until_an_operator_loads_it(
    both: Platform,
) -> None:
    killed: set[int] = set()
    gaps_s: list[float] = []

    def kill() -> None:
        pid = next_replica(both, killed)
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)
        ended_s = time.monotonic()
        next_replica(both, killed)
        gaps_s.append(time.monotonic() - ended_s)

    for _ in range(3):
        kill()
    (trouble,) = both.health()["troubles"]
    reason = trouble["reason"]
    assert (trouble["model"], reason) == (SICK, "its process ended unexpectedly; 3 times recently")
    answers: list[tuple[str, int]] = []
    with watching(both, answers):
        for _ in range(KILLS - 3):
            kill()
        status, body = both.ask("GET", f"/v2/models/{SICK}/ready")
    assert set(answers) == {("ready", 200), (SOUND, 200)}
    assert gaps_s[-1] >= 16  # the pause before the start that followed the sixth end
    assert (
        status,
        "its process ended unexpectedly; 6 times recently" in orjson.loads(body)["error"],
    ) == (503, True)
    entry = index_entry(both)
    assert (entry["state"], "6 times recently" in entry["reason"]) == ("UNAVAILABLE", True)
    shown = subprocess.run(
        command("status", "--admin", f"127.0.0.1:{both.admin_port}"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 1
    assert (
        f"{SICK} 1 is in trouble: its process ended unexpectedly; 6 times recently" in shown.stdout
    )
    page = both.ask("GET", "/metrics", admin=True)[1].decode()
    told = [
        line
        for line in page.splitlines()
        if line.startswith(f'headrace_model_in_trouble{{model="{SICK}"')
    ]
    assert len(told) == 2  # gateways
    assert all(line.endswith(" 1.0") for line in told)

    assert both.ask("POST", f"/v2/repository/models/{SICK}/load", b"{}", admin=True)[0] == 200
    assert both.health()["troubles"] == []
    assert index_entry(both)["state"] == "READY"
    assert both.ask("GET", f"/v2/models/{SICK}/ready")[0] == 200
    os.kill(next_replica(both, killed), signal.SIGKILL)
    body = orjson.dumps({"input": "wikipedia.org"})
    # It waits: nothing is held against it.
    assert both.ask("POST", f"/v1/models/{SICK}:classify", body)[0] == 200
