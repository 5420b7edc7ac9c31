"""The model repository over HTTP: list, load, unload, and swap without losing a request."""

import http.client
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import tritonclient.http as triton
from loadtests.support.checkout import REPOSITORY
from tests.conformance.small_models import make_accumulator
from tests.platform.running import Platform, platform

from headrace_models.repository import sha256_of

pytestmark = [pytest.mark.ray, pytest.mark.zoo]

MODEL = "dga-lstm"
PATH = f"/v1/models/{MODEL}:classify"
BODY = orjson.dumps({"input": "wikipedia.org"})


@dataclass(frozen=True)
class Town:
    """A platform and the repository that it serves."""

    platform: Platform
    repository: Path

    def order(self, what: str, model: str = MODEL, body: bytes = b"{}") -> tuple[int, Any]:
        path = f"/v2/repository/models/{model}/{what}"
        status, answer = self.platform.ask("POST", path, body, admin=True)
        return status, orjson.loads(answer) if answer else None

    def states(self) -> dict[str, tuple[str, str]]:
        status, answer = self.platform.ask("POST", "/v2/repository/index", admin=True)
        assert status == 200, answer
        entries = orjson.loads(answer)
        return {
            entry["version"]: (entry["state"], entry["reason"])
            for entry in entries
            if entry["name"] == MODEL
        }

    def served(self) -> str | None:
        """The version that answers now, over new connections, which reach every gateway."""
        answers = [self.platform.ask("POST", PATH, BODY) for _ in range(8)]
        versions = {
            orjson.loads(body)["version"] if status == 200 else None for status, body in answers
        }
        assert len(versions) == 1, versions
        return versions.pop()

    def add(self, version: str) -> Path:
        """A copy of version 1 under another number."""
        folder = self.repository / MODEL / version
        shutil.copytree(self.repository / MODEL / "1", folder)
        spec = folder / "model.toml"
        spec.write_text(spec.read_text().replace('version = "1"', f'version = "{version}"'))
        return folder

    def remove(self, version: str) -> None:
        shutil.rmtree(self.repository / MODEL / version)


def corrupt(folder: Path) -> None:
    """Give it other weights than its spec has the digest of."""
    with (folder / "model.onnx").open("ab") as weights:
        weights.write(b"x")


def expect_wrongly(folder: Path) -> None:
    """Give it a golden answer, with the right digest, that the model does not give."""
    golden, spec = folder / "golden.npz", folder / "model.toml"
    before = sha256_of(golden)
    with np.load(golden) as saved:
        arrays = {
            name: array + 1 if name.startswith("output:") else array
            for name, array in saved.items()
        }
    np.savez(golden, allow_pickle=False, **arrays)
    spec.write_text(spec.read_text().replace(before, sha256_of(golden)))


@dataclass
class Client:
    """Asks without a pause on one connection, and notes every answer."""

    versions: list[str] = field(default_factory=list)
    failures: list[object] = field(default_factory=list)

    def run(self, port: int, stop: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        while not stop.is_set():
            connection.request("POST", PATH, BODY)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status == 200:
                self.versions.append(orjson.loads(body)["version"])
            else:
                self.failures.append((answer.status, body))
        connection.close()


@contextmanager
def asking(port: int) -> Iterator[list[Client]]:
    """Four clients that ask throughout; entered when each of them has been answered."""
    stop, clients = threading.Event(), [Client() for _ in range(4)]
    with ThreadPoolExecutor(len(clients)) as pool:
        running = [pool.submit(client.run, port, stop) for client in clients]
        try:
            while not all(client.versions for client in clients):
                assert not any(future.done() for future in running)
            yield clients
        finally:
            stop.set()
        for future in running:
            future.result(30)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    if not (REPOSITORY / MODEL).is_dir():
        pytest.skip(f"{REPOSITORY} lacks {MODEL}: run headrace models build")
    repository = tmp_path_factory.mktemp("repository")
    shutil.copytree(REPOSITORY / MODEL / "1", repository / MODEL / "1")
    make_accumulator(tmp_path_factory.mktemp("accumulator"), repository)
    with platform("--models", str(repository)) as running:
        yield Town(running, repository)


def test_the_index_says_what_serves(town: Town) -> None:
    assert town.states() == {"1": ("READY", "")}


def test_an_unloaded_model_is_unknown_and_comes_back_when_it_is_loaded(town: Town) -> None:
    assert town.order("unload") == (200, None)
    assert town.served() is None
    assert town.platform.ask("POST", PATH, BODY)[0] == 404
    assert town.states() == {"1": ("UNAVAILABLE", "not loaded")}
    assert town.order("unload") == (200, None)
    assert town.order("load") == (200, None)
    assert town.served() == "1"
    assert town.states() == {"1": ("READY", "")}


def test_a_new_version_takes_over_without_a_failed_request(town: Town) -> None:
    town.add("2")
    with asking(town.platform.port) as clients:
        assert town.order("load") == (200, None)
        assert town.served() == "2"
        assert town.states() == {"1": ("UNAVAILABLE", "not loaded"), "2": ("READY", "")}
    assert [failure for client in clients for failure in client.failures] == []
    assert all(client.versions == sorted(client.versions) for client in clients)
    assert {version for client in clients for version in client.versions} == {"1", "2"}


def count_up(port: int, name: str, stop: threading.Event, answers: list[tuple[str, float]]) -> None:
    """Send steps of one sequence, each of which adds 1; its versions and sums."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    while not stop.is_set():
        document = {
            "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 0]}],
            "parameters": {"sequence_id": name, "sequence_start": not answers},
        }
        connection.request("POST", "/v2/models/accumulator/infer", orjson.dumps(document))
        answer = orjson.loads(connection.getresponse().read())
        assert "outputs" in answer, answer
        answers.append((answer["model_version"], answer["outputs"][0]["data"][0]))
    connection.close()


def test_open_sequences_go_on_in_a_new_version_and_none_of_their_steps_is_lost(
    town: Town, tmp_path: Path
) -> None:
    make_accumulator(tmp_path, town.repository, "2")
    stop = threading.Event()
    answers: list[list[tuple[str, float]]] = [[] for _ in range(8)]
    with ThreadPoolExecutor(len(answers)) as pool:
        counts = [
            pool.submit(count_up, town.platform.port, str(n), stop, a)
            for n, a in enumerate(answers)
        ]
        try:
            while not all(answers):
                assert not any(count.done() for count in counts)
            assert town.order("load", "accumulator") == (200, None)
            before = [len(a) for a in answers]
            while not all(len(a) > n for a, n in zip(answers, before, strict=True)):
                assert not any(count.done() for count in counts)
        finally:
            stop.set()
        for count in counts:
            count.result(30)
    for each in answers:
        versions = [version for version, _ in each]
        assert [total for _, total in each] == list(range(1, len(each) + 1))
        assert (versions, {*versions}) == (sorted(versions), {"1", "2"})


def test_a_loaded_version_with_other_contents_is_a_conflict(town: Town) -> None:
    spec = town.repository / MODEL / "2" / "model.toml"
    text = spec.read_text()
    spec.write_text(f"{text}\n# changed\n")
    status, problem = town.order("load")
    spec.write_text(text)
    assert (status, problem["code"]) == (409, "conflict")
    assert town.order("load") == (200, None)


def test_corrupted_weights_are_refused_and_the_version_before_serves_on(town: Town) -> None:
    corrupt(town.add("3"))
    with asking(town.platform.port) as clients:
        status, problem = town.order("load")
    assert (status, problem["code"]) == (400, "bad_request")
    assert problem["error"].startswith("model.toml:")
    assert 'files: "model.onnx": expected SHA-256' in problem["error"]
    assert [(c.failures, set(c.versions)) for c in clients] == [([], {"2"})] * 4
    state, reason = town.states()["3"]
    assert state == "UNAVAILABLE"
    assert reason == problem["error"]
    town.remove("3")


def test_a_version_that_does_not_start_is_taken_back_and_the_one_before_serves_on(
    town: Town,
) -> None:
    expect_wrongly(town.add("4"))
    with asking(town.platform.port) as clients:
        status, problem = town.order("load")
        state, reason = town.states()["4"]
    assert (status, problem["code"]) == (500, "start_failed")
    assert "golden output" in problem["error"]
    assert str(town.repository) not in problem["error"]
    assert [(c.failures, set(c.versions)) for c in clients] == [([], {"2"})] * 4
    assert state == "UNAVAILABLE"
    assert "golden output" in reason
    town.remove("4")
    assert town.served() == "2"


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("..%2Fx", 400),
        ("../x", 404),
        ("%2Fetc%2Fpasswd", 400),
        ("/etc/passwd", 404),
        ("a%00b", 400),
        ("nobody", 404),
    ],
)
def test_a_name_that_no_model_has_loads_nothing(town: Town, name: str, status: int) -> None:
    assert town.order("load", name)[0] == status
    assert town.order("unload", name)[0] == status


def test_the_triton_client_lists_loads_and_unloads(town: Town) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{town.platform.admin_port}")

    def states() -> dict[str, str]:
        entries = client.get_model_repository_index()
        return {entry["version"]: entry["state"] for entry in entries if entry["name"] == MODEL}

    client.unload_model(MODEL)
    assert states() == {"1": "UNAVAILABLE", "2": "UNAVAILABLE"}
    client.load_model(MODEL)
    assert states() == {"1": "UNAVAILABLE", "2": "READY"}
    with pytest.raises(triton.InferenceServerException, match="add the version to the repository"):
        client.load_model(MODEL, config="{}")
    client.close()


def test_log_settings_are_changed_by_the_triton_client(town: Town) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{town.platform.admin_port}")
    assert client.get_log_settings()["log_verbose_level"] == 0
    assert client.update_log_settings({"log_verbose_level": 1})["log_verbose_level"] == 1
    assert client.get_log_settings()["log_verbose_level"] == 1
    client.update_log_settings({"log_verbose_level": 0})
    client.close()


def test_many_orders_at_once_end_in_a_state_that_is_told_and_true(town: Town) -> None:
    with ThreadPoolExecutor(20) as pool:
        statuses = [status for status, _ in pool.map(town.order, ["load", "unload"] * 10)]
    assert set(statuses) <= {200, 409, 503}
    assert 200 in statuses
    is_ready = town.states()["2"][0] == "READY"
    assert (town.served() == "2") is is_ready
    assert town.order("load") == (200, None)
    assert town.served() == "2"


def test_a_model_that_does_not_start_is_told_of_and_the_others_are_ready(tmp_path: Path) -> None:
    for model in (MODEL, "silero-vad"):
        if not (REPOSITORY / model).is_dir():
            pytest.skip(f"{REPOSITORY} lacks {model}: run headrace models build")
        shutil.copytree(REPOSITORY / model, tmp_path / model)
    expect_wrongly(tmp_path / MODEL / "1")
    with platform("--models", str(tmp_path)) as running:
        town = Town(running, tmp_path)
        assert running.ask("GET", "/v2/health/ready")[0] == 200
        assert running.health()["models"] == ["silero-vad"]
        state, reason = town.states()["1"]
        assert (state, "golden output" in reason) == ("UNAVAILABLE", True)
        shutil.rmtree(tmp_path / MODEL)
        shutil.copytree(REPOSITORY / MODEL, tmp_path / MODEL)
        assert town.order("load") == (200, None)
        assert town.served() == "1"
