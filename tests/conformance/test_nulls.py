"""null is as good as nothing: at every endpoint, for every member that may be left out, and for
strangers' members.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from copy import deepcopy
from typing import Any

import pytest
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform
from tests.conformance.small_models import make_accumulator
from tests.conformance.talk import post, refused, tensor
from tests.conformance.zoo import serve

ZOO = ("dga-lstm", "minilm-l6")
DOMAIN = tensor("text", [1], ["gnu.org"], "BYTES")
STEP = tensor("x", [1, 2], [1.0, 2.0])
# An endpoint, a body that it takes, and the members that may be null in it: each a way of names and
# indices.
ENDPOINTS: dict[str, tuple[str, str, dict[str, Any], list[tuple[str | int, ...]]]] = {
    "infer": (
        "dga-lstm",
        "/v2/models/dga-lstm/infer",
        {"inputs": [DOMAIN], "outputs": [{"name": "probabilities"}]},
        [
            ("id",),
            ("parameters",),
            *(
                ("parameters", name)
                for name in (
                    "timeout",
                    "priority",
                    "binary_data_output",
                    "sequence_id",
                    "sequence_start",
                    "sequence_end",
                    "shared_memory_region",
                    "triton_enable_empty_final_response",
                    "whatever",
                )
            ),
            ("inputs", 0, "parameters"),
            ("inputs", 0, "parameters", "binary_data_size"),
            ("inputs", 0, "parameters", "shared_memory_region"),
            ("outputs",),
            ("outputs", 0, "parameters"),
            ("outputs", 0, "parameters", "binary_data"),
            ("outputs", 0, "parameters", "classification"),
            ("whatever",),
        ],
    ),
    "generate": (
        "dga-lstm",
        "/v2/models/dga-lstm/generate",
        {"text_input": "gnu.org"},
        [
            ("id",),
            ("parameters",),
            ("parameters", "priority"),
            ("ids",),
            ("stream",),
            ("temperature",),
        ],
    ),
    "predict rows": (
        "dga-lstm",
        "/v1/models/dga-lstm:predict",
        {"instances": [{"text": "gnu.org"}]},
        [("signature_name",), ("inputs",), ("instances", 0, "ids")],
    ),
    "predict columns": (
        "dga-lstm",
        "/v1/models/dga-lstm:predict",
        {"inputs": {"text": ["gnu.org"]}},
        [("signature_name",), ("instances",), ("inputs", "ids")],
    ),
    "a state": ("accumulator", "/v2/models/accumulator/generate", {"x": [1.0, 2.0]}, [("state",)]),
    "a state by row": (
        "accumulator",
        "/v1/models/accumulator:predict",
        {"instances": [{"x": [1.0, 2.0]}]},
        [("instances", 0, "state")],
    ),
    "classify": (
        "dga-lstm",
        "/v1/models/dga-lstm:classify",
        {"input": "gnu.org"},
        [("top_k",), ("user",)],
    ),
    "embeddings": (
        "minilm-l6",
        "/v1/embeddings",
        {"model": "minilm-l6", "input": ["a sentence"]},
        [("encoding_format",), ("dimensions",), ("user",), ("extra_body",)],
    ),
    "log settings": (
        "accumulator",
        "/v2/logging",
        {},
        [("log_verbose_level",), ("log_file",), ("log_format",)],
    ),
    "trace settings": ("accumulator", "/v2/trace/setting", {}, [("trace_level",), ("trace_file",)]),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, InProcessPlatform]]:
    """A gateway before each of the models."""
    with ExitStack() as stack:
        found = {
            name: stack.enter_context(serve(tmp_path_factory.mktemp(name), name)) for name in ZOO
        }
        folder = tmp_path_factory.mktemp("accumulator")
        yield found | {
            "accumulator": stack.enter_context(in_process_platform(folder, make=make_accumulator))
        }


def with_null(body: dict[str, Any], way: tuple[str | int, ...]) -> dict[str, Any]:
    changed = deepcopy(body)
    item: Any = changed
    for part in way[:-1]:
        item = item[part] if isinstance(part, int) else item.setdefault(part, {})
    item[way[-1]] = None
    return changed


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("endpoint", "way"),
    [
        pytest.param(endpoint, way, id=f"{endpoint}: {'.'.join(map(str, way))}")
        for endpoint in ENDPOINTS
        for way in ENDPOINTS[endpoint][3]
    ],
)
def test_null_is_as_if_it_was_not_there(
    served: dict[str, InProcessPlatform], endpoint: str, way: tuple[str | int, ...]
) -> None:
    model, path, body, _ = ENDPOINTS[endpoint]
    port = served[model].port
    without, with_it = post(port, path, body), post(port, path, with_null(body, way))
    assert without.status == 200, without.body
    assert (with_it.status, with_it.json) == (200, without.json)


@pytest.mark.zoo
def test_an_empty_list_of_outputs_is_all_of_them(served: dict[str, InProcessPlatform]) -> None:
    port, path = served["accumulator"].port, "/v2/models/accumulator/infer"
    for more in ({}, {"parameters": {"binary_data_output": True}}):
        body = {"inputs": [STEP], **more}
        assert post(port, path, {**body, "outputs": []}).body == post(port, path, body).body


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("endpoint", "way"),
    [
        ("infer", ("inputs",)),
        ("infer", ("inputs", 0, "name")),
        ("infer", ("inputs", 0, "shape")),
        ("infer", ("inputs", 0, "datatype")),
        ("infer", ("inputs", 0, "data")),
        ("infer", ("inputs", 0, "data", 0)),
        ("infer", ("outputs", 0)),
        ("infer", ("outputs", 0, "name")),
        ("generate", ("text_input",)),
        ("predict rows", ("instances",)),
        ("predict rows", ("instances", 0)),
        ("predict rows", ("instances", 0, "text")),
        ("predict columns", ("inputs",)),
        ("predict columns", ("inputs", "text")),
        ("predict columns", ("inputs", "text", 0)),
        ("classify", ("input",)),
        ("embeddings", ("model",)),
        ("embeddings", ("input",)),
        ("embeddings", ("input", 0)),
    ],
)
def test_what_must_be_there_may_not_be_null(
    served: dict[str, InProcessPlatform], endpoint: str, way: tuple[str | int, ...]
) -> None:
    model, path, body, _ = ENDPOINTS[endpoint]
    said = post(served[model].port, path, with_null(body, way))
    assert said.status == 400
    if endpoint != "embeddings":  # which has errors of another shape
        assert refused(said, 400)
