"""The wall clock of a platform jumps by an hour, ahead and back: what it says changes, and nothing else."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import orjson
import pytest
import uvloop
from loadtests.apart import Platform, Replica, platform
from loadtests.http_client import HttpClient
from loadtests.inputs import Shot
from tests.plain import make_doubler

from headrace.keys.file import add_key
from headrace.keys.key import issue, utc_now

LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
)
JUMPS = ("+3600", "+0", "-3600", "+0")
DEADLINE_S = 10.0


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is written into this file moves the wall clock of the processes that start from now on."""
    library = next(filter(lambda path: Path(path).exists(), LIBRARIES), None)
    if library is None:
        pytest.skip("libfaketime is not on this machine: apt-get install faketime")
    file = tmp_path / "clock"
    file.write_text("+0", encoding="ascii")
    monkeypatch.setenv("LD_PRELOAD", library)
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(file))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    monkeypatch.setenv("NO_FAKE_STAT", "1")
    return file


@pytest.fixture
def keyed(tmp_path: Path, clock: Path) -> Iterator[tuple[Platform, dict[str, str]]]:
    """A platform and three keys: one without limits, one that ends in half an hour, one of a request in 20 minutes."""
    file, now = tmp_path / "keys.json", utc_now()
    issued = {
        "good": issue("good", now),
        "brief": issue("brief", now, expires=now + timedelta(minutes=30)),
        "rare": issue("rare", now, rate=1 / 1200),
    }
    for key, _ in issued.values():
        add_key(file, key)
    with platform([Replica(make_doubler(tmp_path, tmp_path / "repository"))], keys=file) as at:
        yield at, {name: text for name, (_, text) in issued.items()}


def shot(key: str) -> Shot:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    expected = [2.0, 4.0, 6.0, 8.0]
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}

    def is_right(answer: bytes) -> bool:
        return bool(np.array_equal(orjson.loads(answer)["outputs"][0]["data"], expected))

    return Shot("doubler", "/v2/models/doubler/infer", headers, orjson.dumps(body), is_right)


async def statuses(url: str, key: str, count: int, jump: tuple[Path, str] | None = None) -> Sequence[int]:
    """What so many requests get, half of them before the clock jumps."""
    one = shot(key)
    found = []
    async with HttpClient(url, DEADLINE_S, DEADLINE_S) as client:
        for n in range(count):
            if jump and n == count // 2:
                jump[0].write_text(jump[1], encoding="ascii")
            reply = await client.send(one)
            found.append(reply.status if reply.status != 200 or one.accepts(reply.body) else 0)
    return found


def test_an_hour_ahead_or_back_fails_no_request_and_refills_no_quota(
    keyed: tuple[Platform, dict[str, str]], clock: Path
) -> None:
    at, keys = keyed
    assert uvloop.run(statuses(at.url, keys["rare"], 2)) == [200, 429]
    for jump in JUMPS:
        assert uvloop.run(statuses(at.url, keys["good"], 100, (clock, jump))) == [200] * 100
        brief = 401 if jump == "+3600" else 200
        assert uvloop.run(statuses(at.url, keys["brief"], 1)) == [brief], "a key ends when the wall clock says so"
        assert uvloop.run(statuses(at.url, keys["rare"], 1)) == [429]
