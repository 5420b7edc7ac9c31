"""The index on the data port: the caller's models as they are now, for Triton's clients too, and no
more.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform
from tests.platform.triton_callers import CLIENTS, Call

from headrace.fleet.entries import Fleet, Trouble
from headrace.keys.file import add_key
from headrace.keys.key import issue, utc_now

INDEX = "/v2/repository/index"
READY = {"name": "doubler", "version": "1", "state": "READY", "reason": ""}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    with in_process_platform(tmp_path_factory.mktemp("plain")) as running:
        yield running


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"ready": false}', b'{"ready": true}', b'{"ready": null}']
)
def test_a_model_that_answers_is_ready(served: InProcessPlatform, body: bytes) -> None:
    assert served.ask("POST", INDEX, body)[:2] == (200, [READY])


@pytest.mark.parametrize(
    "path", [INDEX, "/v2/logging", "/v2/trace/setting", "/v2/systemsharedmemory/unregister"]
)
def test_a_large_body_is_refused_before_it_is_read(served: InProcessPlatform, path: str) -> None:
    status, answer, _ = served.ask("POST", path, b'{"x":[' + b"[]," * 3000 + b"[]]}")
    assert (status, answer["code"]) == (413, "body_too_large")
    assert served.ask("POST", path, b"{" + b" " * 8000)[0] == 400


@pytest.mark.parametrize("client", CLIENTS)
def test_triton_s_clients_read_it(served: InProcessPlatform, client: str) -> None:
    assert Call(client, served.port)("get_model_repository_index") == [READY]


def test_a_model_in_trouble_is_unavailable_with_the_reason(tmp_path: Path) -> None:
    with in_process_platform(tmp_path) as running:
        trouble = Trouble("doubler", "1", "its golden row fails")
        fleet = Fleet(2, ("doubler",), (running.entry,), (), troubles=(trouble,))
        running.gateway_thread.call(lambda: running.gateway.update(fleet))
        (entry,) = running.ask("POST", INDEX)[1]
        assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "its golden row fails")
        assert running.ask("POST", INDEX, b'{"ready": true}')[1] == []


def test_a_caller_sees_the_models_of_its_key_alone(tmp_path: Path) -> None:
    issued = {
        name: issue(name, utc_now(), models=models)
        for name, models in (("all", ("*",)), ("none", ("other",)))
    }
    for key, _ in issued.values():
        add_key(tmp_path / "keys.json", key)
    with in_process_platform(tmp_path, keys=tmp_path / "keys.json") as running:
        found = {
            name: running.ask("POST", INDEX, headers={"Authorization": f"Bearer {text}"})[1]
            for name, (_, text) in issued.items()
        }
        assert found == {"all": [READY], "none": []}
        assert running.ask("POST", INDEX)[0] == 401


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_nothing_is_changed_from_this_port(served: InProcessPlatform, verb: str) -> None:
    assert served.ask("POST", f"/v2/repository/models/doubler/{verb}", b"{}")[0] == 404
    assert served.ask("POST", INDEX)[1] == [READY]
