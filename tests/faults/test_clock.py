"""The wall clock of a platform jumps by an hour, ahead and back: only printed times change."""

import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pytest
import uvloop
from loadtests.support.doubler import make_doubler
from loadtests.support.http_client import HttpClient
from loadtests.support.process_platform import ProcessPlatform, Replica, process_platform
from tests.platform.running import platform as running_platform

from headrace.keys.file import add_key
from headrace.keys.key import issue, utc_now
from headrace.loadtest.checked_request import CheckedRequest

SOURCE = Path(__file__).with_name("wall_clock.c")
HOUR_S = 3600
DEADLINE_S = 10.0


class Clock:
    """The wall clock of processes that start within the context."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    def set(self, ahead_s: int) -> None:
        """Set the clock `seconds` ahead of the true time, at once."""
        if not self._file.exists():
            self._file.touch()
        with self._file.open("r+b") as file:  # in place: it is mapped
            file.write(struct.pack("@l", ahead_s))


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, to make what moves a process's clock")
    library = tmp_path / "wall_clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("WALL_CLOCK", str(tmp_path / "clock"))
    return Clock(tmp_path / "clock")


@pytest.fixture
def keyed(tmp_path: Path, clock: Clock) -> Iterator[tuple[ProcessPlatform, dict[str, str]]]:
    """A platform and three keys: without limits, for half an hour, for a request per 20 minutes."""
    file, now = tmp_path / "keys.json", utc_now()
    issued = {
        "good": issue("good", now),
        "brief": issue("brief", now, expires=now + timedelta(minutes=30)),
        "rare": issue("rare", now, rate=1 / 1200),
    }
    for key, _ in issued.values():
        add_key(file, key)
    with process_platform(
        [Replica(make_doubler(tmp_path, tmp_path / "repository"))], keys=file
    ) as at:
        yield at, {name: text for name, (_, text) in issued.items()}


def request(key: str) -> CheckedRequest:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    expected = [2.0, 4.0, 6.0, 8.0]
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}

    def is_right(answer: bytes) -> bool:
        return bool(np.array_equal(orjson.loads(answer)["outputs"][0]["data"], expected))

    return CheckedRequest(
        "doubler", "/v2/models/doubler/infer", headers, orjson.dumps(body), is_right
    )


async def statuses(
    url: str, key: str, count: int, jump: Callable[[], None] = lambda: None
) -> Sequence[int]:
    """The answers to `number` requests, half of them before the clock jumps."""
    one = request(key)
    found = []
    async with HttpClient(url, DEADLINE_S, DEADLINE_S) as client:
        for n in range(count):
            if n == count // 2:
                jump()
            reply = await client.send(one)
            found.append(reply.status if reply.status != 200 or one.accepts(reply.body) else 0)
    return found


def test_an_hour_ahead_or_back_fails_no_request_and_refills_no_quota(
    keyed: tuple[ProcessPlatform, dict[str, str]], clock: Clock
) -> None:
    at, keys = keyed
    assert uvloop.run(statuses(at.url, keys["rare"], 2)) == [200, 429]
    for ahead_s in (HOUR_S, 0, -HOUR_S, 0):
        assert (
            uvloop.run(statuses(at.url, keys["good"], 100, partial(clock.set, ahead_s)))
            == [200] * 100
        )
        brief = 401 if ahead_s == HOUR_S else 200
        assert uvloop.run(statuses(at.url, keys["brief"], 1)) == [brief], (
            "a key ends when the wall clock says so"
        )
        assert uvloop.run(statuses(at.url, keys["rare"], 1)) == [429]


@pytest.mark.ray
def test_a_killed_replica_is_replaced_though_the_clock_was_set_back_by_an_hour(
    tmp_path: Path, clock: Clock
) -> None:
    repository = tmp_path / "repository"
    make_doubler(tmp_path, repository)
    with running_platform("--models", str(repository)) as running:
        clock.set(-HOUR_S)
        replica = next(p["pid"] for p in running.health()["processes"] if p["role"] == "replica")
        os.kill(replica, signal.SIGKILL)
        one = request("none is asked for")
        status, answer = running.ask(
            "POST", one.path, one.body, {**one.headers, "X-Request-Timeout": "90"}
        )
    assert status == 200, answer
    assert one.accepts(answer)
