"""A response cache before a real model: every endpoint finds what another one asked, and says where
it is from.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform

from headrace.gateway.settings import GatewayModelSettings

BINARY = {
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}
    ]
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    models = {"doubler": GatewayModelSettings(cache_bytes=1 << 20)}
    with in_process_platform(tmp_path_factory.mktemp("plain"), models=models) as running:
        yield running


def row(number: float) -> "np.ndarray[Any, np.dtype[np.float32]]":
    return np.full((1, 4), number, np.float32)


def test_the_second_time_the_answer_is_the_kept_one(served: InProcessPlatform) -> None:
    first, second = served.infer(row(1)), served.infer(row(1))
    assert first[1]["outputs"] == second[1]["outputs"]
    assert "cache" not in first[2]["server-timing"]
    assert second[2]["server-timing"].startswith("cache;desc=hit, queue;dur=0.000")


def test_every_door_and_form_finds_the_answer_of_another(served: InProcessPlatform) -> None:
    served.infer(row(2))
    header = orjson.dumps(BINARY)
    found = [
        served.infer(row(2), parameters={"priority": 3, "timeout": 5_000_000}),
        served.ask(
            "POST",
            "/v2/models/doubler/infer",
            header + row(2).tobytes(),
            {"Inference-Header-Content-Length": str(len(header))},
        ),
        served.ask(
            "POST", "/v1/models/doubler:predict", orjson.dumps({"instances": row(2).tolist()})
        ),
    ]
    assert [status for status, _, _ in found] == [200] * 3
    assert all("cache;desc=hit" in headers["server-timing"] for _, _, headers in found)
    assert found[2][1] == {"predictions": [[4.0] * 4]}


def test_the_configuration_says_that_answers_are_kept(served: InProcessPlatform) -> None:
    assert served.ask("GET", "/v2/models/doubler/config")[1]["response_cache"] == {"enable": True}
