"""The behaviour expected of each method of Triton's HTTP clients."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tests.conformance.talk import post
from tests.platform.triton_callers import Call
from tritonclient.utils import InferenceServerException

__all__ = ["DOMAINS", "METHODS", "MODEL", "OF_THE_REPOSITORY", "domains", "refuses"]

MODEL = "dga-lstm"
DOMAINS = ["wikipedia.org", "xkqjzvbwpt.com"]


def domains(*, binary: bool = True) -> list[Any]:
    tensor = triton.InferInput("text", [2], "BYTES")
    return [tensor.set_data_from_numpy(np.array(DOMAINS, dtype=object), binary_data=binary)]


def refuses(call: Call, match: str, status: str, *arguments: Any, **options: Any) -> None:
    with pytest.raises(InferenceServerException, match=match) as caught:
        call(*arguments, **options)
    assert caught.value.status() == status


def is_alive(call: Call) -> None:
    assert call("is_server_live") is True


def is_ready(call: Call) -> None:
    assert call("is_server_ready") is True


def is_model_ready(call: Call) -> None:
    assert call("is_model_ready", MODEL) is True
    assert call("is_model_ready", MODEL, "1") is True
    assert call("is_model_ready", MODEL, "2") is False
    assert call("is_model_ready", "nobody") is False


def server_metadata(call: Call) -> None:
    extensions = call("get_server_metadata")["extensions"]
    assert {"binary_tensor_data", "classification", "statistics", "schedule_policy"} <= set(
        extensions
    )
    assert not any("shared_memory" in extension for extension in extensions)


def model_metadata(call: Call) -> None:
    document = call("get_model_metadata", MODEL, "1")
    assert (document["name"], document["versions"]) == (MODEL, ["1"])
    assert document["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1, 1]}]
    refuses(call, "no such version", "404", "get_model_metadata", MODEL, "2")


def model_config(call: Call) -> None:
    document = call("get_model_config", MODEL)
    assert document["max_batch_size"] == 64
    assert document["input"][0]["data_type"] == "TYPE_STRING"
    assert "dynamic_batching" in document


def statistics(call: Call) -> None:
    before = call("get_inference_statistics", MODEL)["model_stats"][0]
    call("infer", MODEL, domains())
    after = call("get_inference_statistics", MODEL, "1")["model_stats"][0]
    assert after["inference_count"] == before["inference_count"] + len(DOMAINS)
    assert (
        after["inference_stats"]["success"]["count"]
        == before["inference_stats"]["success"]["count"] + 1
    )
    assert MODEL in {model["name"] for model in call("get_inference_statistics")["model_stats"]}


def trace_settings(call: Call) -> None:
    settings = call("get_trace_settings")
    assert settings["trace_level"] == ["OFF"]
    assert call("get_trace_settings", MODEL) == settings
    assert (
        call("update_trace_settings", settings={"trace_level": ["OFF"], "trace_rate": None})
        == settings
    )
    assert call("update_trace_settings", MODEL, {"trace_count": "-1"}) == settings
    refuses(
        call,
        "tracing is not supported",
        "400",
        "update_trace_settings",
        settings={"trace_level": ["TENSORS"]},
    )


def log_settings(call: Call) -> None:
    before = call("get_log_settings")
    assert call("update_log_settings", {"log_verbose_level": 2})["log_verbose_level"] == 2
    assert call("update_log_settings", before) == before
    refuses(call, "logs go to stderr", "400", "update_log_settings", {"log_file": "/tmp/log"})


def shared_memory_status(method: str, call: Call) -> None:
    for region in ("", "mine"):
        refuses(call, "shared memory is not supported", "400", method, region)


def no_shared_memory(method: str, arguments: tuple[object, ...], call: Call) -> None:
    refuses(call, "shared memory is not supported", "400", method, *arguments)


def state(call: Call) -> str:
    (found,) = [
        entry["state"] for entry in call("get_model_repository_index") if entry["name"] == MODEL
    ]
    return str(found)


def repository_index(call: Call) -> None:
    assert state(call) == "READY"


def load(call: Call) -> None:
    call("load_model", MODEL)
    refuses(call, "add the version to the repository", "400", "load_model", MODEL, config="{}")
    files = {"file:1/model.onnx": b"x"}
    refuses(
        call,
        "add the version to the repository",
        "400",
        "load_model",
        MODEL,
        config="{}",
        files=files,
    )
    refuses(call, "no such model", "404", "load_model", "nobody")


def unload(call: Call) -> None:
    call("unload_model", MODEL, unload_dependents=True)
    assert state(call) == "UNAVAILABLE"
    call("load_model", MODEL)
    repository_index(call)


def infer(call: Call) -> None:
    answer = call("infer", MODEL, domains(), request_id="seven", model_version="1")
    assert answer.get_response()["id"] == "seven"
    assert answer.get_output("probabilities")["shape"] == [2, 2]
    assert answer.as_numpy("probabilities").argmax(axis=1).tolist() == [0, 1]


def async_infer(call: Call) -> None:
    """Many at once; the answers are asked for while the client is open."""

    def use(client: Any) -> list[Any]:
        asked = [client.async_infer(MODEL, domains(), request_id=str(n)) for n in range(8)]
        return [one.get_result(timeout=30) for one in asked]

    answers = call(use)
    assert [answer.get_response()["id"] for answer in answers] == [str(n) for n in range(8)]


def bodies(call: Call) -> None:
    """A body that the client makes, sent by other means, and the answer read by the client."""
    kind = call.kind
    outputs = [triton.InferRequestedOutput("probabilities", binary_data=False)]
    body, length = kind.generate_request_body(
        domains(), outputs, request_id="7", priority=1, timeout=5_000_000
    )
    said = post(
        call.port,
        f"/v2/models/{MODEL}/infer",
        body,
        {"Inference-Header-Content-Length": str(length)},
    )
    assert said.status == 200, said.body
    answer = kind.parse_response_body(said.body)
    assert answer.get_response()["id"] == "7"
    assert answer.as_numpy("probabilities").argmax(axis=1).tolist() == [0, 1]


def plugins(call: Call) -> None:
    """A plugin changes the headers of whatever is asked."""
    seen = []

    def plugin(request: Any) -> None:
        request.headers["x-request-timeout"] = "abc"
        seen.append(request)

    def use(client: Any) -> Any:
        client.register_plugin(plugin)
        assert client.plugin() is plugin
        return client.infer(MODEL, domains())

    refuses(call, "X-Request-Timeout: expected a number", "400", use)
    assert seen

    def forget(client: Any) -> Any:
        client.register_plugin(plugin)
        client.unregister_plugin()
        return client.is_server_live()

    assert call(forget) is True


def close(call: Call) -> None:
    """Each call here closes its client; once more does no harm."""
    call(lambda client: client.close())


_SYSTEM, _CUDA = ("mine", "/key", 64), ("mine", b"handle", 0, 64)
OF_THE_REPOSITORY = {"get_model_repository_index", "load_model", "unload_model"}
METHODS: dict[str, Callable[[Call], None]] = {
    "async_infer": async_infer,
    "close": close,
    "generate_request_body": bodies,
    "get_cuda_shared_memory_status": partial(shared_memory_status, "get_cuda_shared_memory_status"),
    "get_inference_statistics": statistics,
    "get_log_settings": log_settings,
    "get_model_config": model_config,
    "get_model_metadata": model_metadata,
    "get_model_repository_index": repository_index,
    "get_server_metadata": server_metadata,
    "get_system_shared_memory_status": partial(
        shared_memory_status, "get_system_shared_memory_status"
    ),
    "get_trace_settings": trace_settings,
    "infer": infer,
    "is_model_ready": is_model_ready,
    "is_server_live": is_alive,
    "is_server_ready": is_ready,
    "load_model": load,
    "parse_response_body": bodies,
    "plugin": plugins,
    "register_cuda_shared_memory": partial(no_shared_memory, "register_cuda_shared_memory", _CUDA),
    "register_plugin": plugins,
    "register_system_shared_memory": partial(
        no_shared_memory, "register_system_shared_memory", _SYSTEM
    ),
    "unload_model": unload,
    "unregister_cuda_shared_memory": partial(
        no_shared_memory, "unregister_cuda_shared_memory", ("mine",)
    ),
    "unregister_plugin": plugins,
    "unregister_system_shared_memory": partial(
        no_shared_memory, "unregister_system_shared_memory", ()
    ),
    "update_log_settings": log_settings,
    "update_trace_settings": trace_settings,
}
