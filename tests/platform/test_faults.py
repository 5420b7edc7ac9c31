"""Faults and how a platform reports them; each test has its own with one small model."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from loadtests.support.checkout import REPOSITORY
from loadtests.support.ports import free_port
from loadtests.support.proc import has_ended
from tests.platform.running import Platform, command, platform
from tests.replica.loops import ENDLESS, make_loop

pytestmark = [pytest.mark.ray, pytest.mark.zoo]

PATH = "/v1/models/dga-lstm:classify"
BODY = orjson.dumps({"input": "wikipedia.org"})
RECOVERY_S = 60.0


@pytest.fixture(scope="module")
def small() -> Iterator[Platform]:
    if not (REPOSITORY / "dga-lstm").is_dir():
        pytest.skip(f"{REPOSITORY} lacks dga-lstm: run headrace models build")
    with platform("--model", "dga-lstm") as running:
        yield running


def _until(is_so: Callable[[], bool], what: str) -> None:
    """Poll a process that cannot tell us; bounded, and each poll is a request, not a sleep."""
    deadline_s = time.monotonic() + RECOVERY_S
    while not is_so():
        assert time.monotonic() < deadline_s, f"{what} within {RECOVERY_S} s"


def _answers(running: Platform) -> bool:
    try:
        return running.ask("POST", PATH, BODY)[0] == 200
    except OSError:
        return False


def _pids(running: Platform, role: str) -> set[int]:
    return {int(p["pid"]) for p in running.health()["processes"] if p["role"] == role}


def test_a_killed_replica_is_replaced_and_meanwhile_refusals_are_clear(small: Platform) -> None:
    (pid,) = _pids(small, "replica")
    os.kill(pid, signal.SIGKILL)
    refusals = []

    def is_back() -> bool:
        status, body = small.ask("POST", PATH, BODY)
        if status != 200:
            refusals.append((status, orjson.loads(body)["code"]))
        return status == 200 and pid not in _pids(small, "replica")

    _until(is_back, "a replica answers again")
    assert set(refusals) <= {(503, "model_not_ready"), (503, "replica_unavailable")}


def test_a_killed_gateway_comes_back_and_meanwhile_the_other_answers(small: Platform) -> None:
    before = _pids(small, "gateway")
    killed = before.pop()
    os.kill(killed, signal.SIGKILL)
    _until(
        lambda: _answers(small) and len(_pids(small, "gateway") - {killed}) == 2,
        "two gateways answer again",
    )


@pytest.mark.parametrize("role", ["replica", "gateway"])
def test_a_process_that_is_stopped_for_good_is_replaced(small: Platform, role: str) -> None:
    _until(lambda: not any(map(has_ended, _pids(small, role))), "only those that live are told of")
    before = _pids(small, role)
    stopped = min(before)
    os.kill(stopped, signal.SIGSTOP)
    _until(lambda: has_ended(stopped), "the process that was stopped ends")
    _until(
        lambda: len(_pids(small, role) - {stopped}) == len(before) and _answers(small),
        "another one answers",
    )


def test_an_endless_input_takes_its_model_from_nobody(tmp_path: Path) -> None:
    make_loop(tmp_path, tmp_path / "repository")

    def infer(running: Platform, number: int) -> tuple[int, str]:
        tensor = {"name": "x", "datatype": "INT64", "shape": [1, 4], "data": [number] * 4}
        status, body = running.ask(
            "POST", "/v2/models/loop/infer", orjson.dumps({"inputs": [tensor]})
        )
        return status, orjson.loads(body).get("code", "")

    with platform("--models", str(tmp_path / "repository")) as running:
        before = _pids(running, "replica")
        # Each gateway learns by itself, and a connection may be of either.
        outcomes = [infer(running, number) for number in (5, ENDLESS, 6, ENDLESS, ENDLESS, 7)]
        assert outcomes == [
            (500, "poison_input") if n in (1, 3, 4) else (200, "") for n in range(6)
        ]
        assert _pids(running, "replica") == before


def test_the_taken_port_is_named_in_one_line_and_the_start_fails(small: Platform) -> None:
    taken = subprocess.run(
        command("serve", "--port", str(small.port), "--admin-port", str(free_port())),
        capture_output=True,
        text=True,
    )
    assert taken.returncode == 1
    (line,) = taken.stderr.splitlines()
    assert line.startswith(
        f"headrace: cannot listen on 127.0.0.1:{small.port}: Address already in use; "
    )


def test_a_model_with_a_wrong_digest_is_refused_with_its_place_and_the_others_serve(
    tmp_path: Path,
) -> None:
    if not (REPOSITORY / "dga-lstm").is_dir():
        pytest.skip(f"{REPOSITORY} lacks dga-lstm: run headrace models build")
    shutil.copytree(REPOSITORY / "dga-lstm", tmp_path / "dga-lstm")
    shutil.copytree(REPOSITORY / "silero-vad", tmp_path / "silero-vad")
    with (tmp_path / "silero-vad" / "1" / "model.onnx").open("ab") as weights:
        weights.write(b"x")
    with platform("--models", str(tmp_path)) as running:
        assert running.ask("POST", PATH, BODY)[0] == 200
        assert running.ask("GET", "/v2/models/silero-vad")[0] == 404
        assert running.ask("GET", "/v2/health/ready")[0] == 200
        checked = subprocess.run(
            command("models", "check", "--models", str(tmp_path)), capture_output=True, text=True
        )
    assert checked.returncode == 1
    assert f"{tmp_path}/silero-vad/1/model.toml:" in checked.stdout
    assert 'files: "model.onnx": expected SHA-256' in checked.stdout


def test_sigterm_answers_what_is_in_flight_and_exits_0() -> None:
    if not (REPOSITORY / "dga-lstm").is_dir():
        pytest.skip(f"{REPOSITORY} lacks dga-lstm: run headrace models build")
    with platform("--model", "dga-lstm") as running:
        with socket.create_connection(("127.0.0.1", running.port)) as caller:
            lines = f"POST {PATH} HTTP/1.1", "Host: localhost", f"Content-Length: {len(BODY)}"
            head = "\r\n".join([*lines, "", ""]).encode()
            caller.sendall(head + BODY[:5])
            # The request is in the gateway once its head is answered for: a second one proves that
            # the loop turned.
            assert _answers(running)
            running.process.send_signal(signal.SIGTERM)
            caller.sendall(BODY[5:])
            assert caller.recv(65536).startswith(b"HTTP/1.1 200 OK")
        assert running.process.wait(60) == 0
