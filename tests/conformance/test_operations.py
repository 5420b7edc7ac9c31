"""The extensions that operate models: configuration, statistics, schedule, repository, generate,
logging.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from loadtests.support.gated_backend import GatedBackend
from loadtests.support.in_process_platform import (
    InProcessPlatform,
    gated_platform,
    in_process_platform,
)
from tests.conformance.talk import get, infer, post, refused, wide
from tests.platform.running import Platform

INFER = "/v2/models/wide/infer"
INDEX = "/v2/repository/index"
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.ray
@pytest.mark.parametrize("path", ["/v2/models/wide/config", "/v2/models/wide/versions/1/config"])
def test_config_has_what_perf_analyzer_reads(typed: Platform, path: str) -> None:
    config = get(typed.port, path).json
    assert (config["name"], config["max_batch_size"]) == ("wide", 64)
    (taken,) = config["input"]
    assert (taken["name"], taken["data_type"], taken["dims"]) == ("x", "TYPE_FP32", [-1])
    assert [output["name"] for output in config["output"]] == ["twice", "square"]
    assert "dynamic_batching" in config


@pytest.mark.ray
@pytest.mark.parametrize(
    "extension", ["binary_tensor_data", "classification", "model_configuration", "statistics"]
)
def test_extensions_are_announced(typed: Platform, extension: str) -> None:
    assert extension in get(typed.port, "/v2").json["extensions"]


@pytest.mark.ray
def test_stats_counts_batch64_as_64(typed: Platform) -> None:
    before = stats(typed)
    infer(typed.port, "wide", wide(np.ones((64, 1), np.float32)))
    after = stats(typed)
    assert after["inference_count"] - before["inference_count"] == 64
    assert after["execution_count"] - before["execution_count"] >= 1
    assert (
        after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"]
        == 1
    )


@pytest.mark.ray
def test_stats_batch_stats_sum(typed: Platform) -> None:
    infer(typed.port, "wide", wide(ROWS))
    document = stats(typed)
    assert (
        sum(b["compute_infer"]["count"] for b in document["batch_stats"])
        == document["execution_count"]
    )
    rows = sum(b["compute_infer"]["count"] * b["batch_size"] for b in document["batch_stats"])
    assert rows == document["inference_count"]


@pytest.mark.ray
def test_stats_have_what_perf_analyzer_reads(typed: Platform) -> None:
    document = stats(typed)
    names = [
        "success",
        "fail",
        "queue",
        "compute_input",
        "compute_infer",
        "compute_output",
        "cache_hit",
        "cache_miss",
    ]
    counts = [document["inference_stats"][name][key] for name in names for key in ("count", "ns")]
    assert all(type(count) is int and count >= 0 for count in counts)
    assert type(document["last_inference"]) is int


@pytest.mark.ray
def test_stats_of_all_models_is_no_model(typed: Platform) -> None:
    document = get(typed.port, "/v2/models/stats").json
    assert {item["name"] for item in document["model_stats"]} == {"typed", "finite", "wide"}


def stats(typed: Platform) -> Any:
    (document,) = get(typed.port, "/v2/models/wide/stats").json["model_stats"]
    return document


@pytest.mark.ray
def test_timeout_us_rejects(typed: Platform) -> None:
    said = post(typed.port, INFER, wide(ROWS, parameters={"timeout": 1}))
    assert refused(said, 504, "deadline_exceeded")


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[tuple[InProcessPlatform, GatedBackend]]:
    with gated_platform(tmp_path) as both:
        yield both


def test_priority_orders_queue(gated: tuple[InProcessPlatform, GatedBackend]) -> None:
    """1 is the highest, and runs before a 9 that came first."""
    running, model = gated
    callers = []
    for number, priority in ((1, 1), (2, 9), (3, 1)):
        rows = np.full((64, 4), number, np.float32)  # a whole batch
        caller = threading.Thread(
            target=running.infer, args=(rows,), kwargs={"parameters": {"priority": priority}}
        )
        caller.start()
        callers.append(caller)
        assert model.entered.wait(5)
        while f"headrace_requests_in_flight {number}.0" not in running_metrics(running):
            assert caller.is_alive()
    model.open()
    for caller in callers:
        caller.join(20)
    assert model.rows[::64] == [1.0, 3.0, 2.0]


def test_ready_false_is_non200(tmp_path: Path) -> None:
    with in_process_platform(tmp_path) as running:
        running.replica_thread.stop()
        assert running.replica_thread.wait(20)
        while running.ask("GET", "/v2/health/ready")[0] == 200:
            assert running.gateway_thread.is_alive
        assert running.ask("GET", "/v2/health/ready")[0] == 503
        assert running.ask("GET", "/v2/models/doubler/ready")[0] == 503
        assert running.ask("GET", "/v2/health/live")[0] == 200


def running_metrics(running: InProcessPlatform) -> str:
    host, _, port = running.gateway.metrics.rpartition(":")
    assert host
    return get(int(port), "/metrics").body.decode()


@pytest.mark.ray
def test_index_load_unload(typed: Platform) -> None:
    assert states(typed) == {"typed": "READY", "finite": "READY", "wide": "READY"}
    assert post(typed.admin_port, "/v2/repository/models/wide/unload", b"{}").status == 200
    try:
        assert states(typed)["wide"] == "UNAVAILABLE"
        assert post(typed.port, INFER, wide(ROWS)).status in (404, 503)
        ready = post(typed.admin_port, INDEX, {"ready": True}).json
        assert [model["name"] for model in ready] == ["finite", "typed"]
    finally:
        assert post(typed.admin_port, "/v2/repository/models/wide/load", b"{}").status == 200
    assert infer(typed.port, "wide", wide(ROWS))["model_name"] == "wide"
    assert states(typed)["wide"] == "READY"


@pytest.mark.ray
def test_unload_as_tritons_client_asks_for_it_of_nobody_is_refused(typed: Platform) -> None:
    body = {"parameters": {"unload_dependents": False}}
    said = post(typed.admin_port, "/v2/repository/models/nobody/unload", body)
    assert refused(said, 404, "model_not_found")


@pytest.mark.ray
def test_reload_failure_keeps_old(typed: Platform, typed_repository: Path) -> None:
    weights = typed_repository / "wide" / "1" / "model.onnx"
    sound = weights.read_bytes()
    weights.write_bytes(sound + b"x")
    try:
        said = post(typed.admin_port, "/v2/repository/models/wide/load", b"{}")
        assert refused(said, said.status)
        assert said.json["code"] != "not_found"
        assert infer(typed.port, "wide", wide(ROWS))["model_version"] == "1"
    finally:
        weights.write_bytes(sound)


def states(typed: Platform) -> dict[str, str]:
    said = post(typed.admin_port, INDEX)
    assert said.status == 200, said.body
    assert all(isinstance(model["reason"], str) for model in said.json)
    return {model["name"]: model["state"] for model in said.json}


@pytest.mark.ray
@pytest.mark.zoo
def test_generate(served: Platform) -> None:
    said = post(
        served.port, "/v2/models/dga-lstm/generate", {"id": "a", "text_input": "wikipedia.org"}
    )
    assert said.status == 200, said.body
    document = said.json
    assert (document["model_name"], document["model_version"], document["id"]) == (
        "dga-lstm",
        "1",
        "a",
    )
    assert len(document["probabilities"]) == 2


@pytest.mark.ray
@pytest.mark.zoo
def test_generate_stream_sse(served: Platform) -> None:
    said = post(served.port, "/v2/models/dga-lstm/generate_stream", {"text_input": "wikipedia.org"})
    assert said.headers["content-type"].startswith("text/event-stream")
    events = [event for event in said.body.decode().split("\n\n") if event]
    assert all(event.startswith("data:") for event in events)
    assert orjson.loads(events[0].removeprefix("data:"))["model_name"] == "dga-lstm"


@pytest.mark.ray
def test_logging_roundtrip(typed: Platform) -> None:
    before = get(typed.admin_port, "/v2/logging").json
    assert {
        "log_info",
        "log_warning",
        "log_error",
        "log_verbose_level",
        "log_format",
    } <= before.keys()
    after = post(
        typed.admin_port, "/v2/logging", {"log_verbose_level": before["log_verbose_level"] + 1}
    )
    assert after.json == {**before, "log_verbose_level": before["log_verbose_level"] + 1}
    assert post(typed.admin_port, "/v2/logging", before).json == before


@pytest.mark.ray
def test_logging_file_cannot_be_changed(typed: Platform) -> None:
    said = post(typed.admin_port, "/v2/logging", {"log_file": "/tmp/other"})
    assert refused(said, 400)
