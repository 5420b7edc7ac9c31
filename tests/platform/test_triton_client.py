"""Triton's two HTTP clients, unmodified: every method, and every way to infer.

A method that a new version of the client brings fails here until METHODS says what it must do.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from loadtests.support.checkout import REPOSITORY
from loadtests.support.in_process_platform import in_process_platform
from tests.keys.certificates import write_pair
from tests.platform.running import Platform, platform
from tests.platform.triton_callers import CLIENTS, Call, methods_of
from tests.platform.triton_methods import METHODS, MODEL, OF_THE_REPOSITORY, domains, refuses

pytestmark = [pytest.mark.ray, pytest.mark.zoo]


@pytest.fixture(params=CLIENTS)
def call(request: pytest.FixtureRequest, served: Platform) -> Call:
    return Call(request.param, served.port)


@pytest.fixture(scope="module")
def spare() -> Iterator[Platform]:
    """A platform whose model may be unloaded."""
    if not (REPOSITORY / MODEL).is_dir():
        pytest.skip(f"{REPOSITORY} lacks {MODEL}: run headrace models build")
    with platform("--model", MODEL) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "method"),
    [
        (name, method)
        for name in CLIENTS
        for method in methods_of(name)
        if method not in OF_THE_REPOSITORY
    ],
)
def test_every_method_does_what_it_must(served: Platform, name: str, method: str) -> None:
    METHODS[method](Call(name, served.port))


@pytest.mark.parametrize("method", sorted(OF_THE_REPOSITORY))
@pytest.mark.parametrize("name", CLIENTS)
def test_every_method_of_the_repository_does_what_it_must(
    spare: Platform, name: str, method: str
) -> None:
    METHODS[method](Call(name, spare.admin_port))


def probabilities(call: Call, *, binary: bool = True, **options: Any) -> np.ndarray:
    answer: np.ndarray = call("infer", MODEL, domains(binary=binary), **options).as_numpy(
        "probabilities"
    )
    return answer


@pytest.mark.parametrize(
    "options",
    [
        {"binary": False},
        {"outputs": [triton.InferRequestedOutput("probabilities", binary_data=True)]},
        {"outputs": [triton.InferRequestedOutput("probabilities", binary_data=False)]},
        {"request_compression_algorithm": "gzip"},
        {"request_compression_algorithm": "deflate"},
        {"response_compression_algorithm": "gzip"},
        {"response_compression_algorithm": "deflate"},
        {
            "request_compression_algorithm": "deflate",
            "response_compression_algorithm": "gzip",
            "binary": False,
        },
        {"priority": 1},
        {"timeout": 20_000_000},
        {"parameters": {"mine": "text", "more": 1.5, "flag": True}},
        {"headers": {"X-Request-Id": "mine", "X-Request-Timeout": "20"}},
        {"query_params": {"a": ["b", "c"]}},
    ],
    ids=lambda options: "-".join(options),
)
def test_whatever_is_said_beside_the_tensors_the_answer_is_the_same(
    call: Call, options: dict[str, Any]
) -> None:
    np.testing.assert_array_equal(probabilities(call, **options), probabilities(call))


def test_one_output_is_binary_and_the_other_json(call: Call) -> None:
    frame = triton.InferInput("input", [1, 288], "FP32").set_data_from_numpy(
        np.zeros((1, 288), np.float32)
    )
    outputs = [
        triton.InferRequestedOutput("stateN", binary_data=True),
        triton.InferRequestedOutput("output", binary_data=False),
    ]
    answer = call("infer", "silero-vad", [frame], outputs=outputs)
    assert [output["name"] for output in answer.get_response()["outputs"]] == ["stateN", "output"]
    assert (answer.as_numpy("stateN").shape, answer.as_numpy("output").shape) == (
        (1, 2, 128),
        (1, 1),
    )


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_an_output_is_asked_for_as_its_best_class(call: Call, *, binary: bool) -> None:
    outputs = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=1)]
    best = probabilities(call, outputs=outputs).ravel().tolist()
    texts = [element.decode() if isinstance(element, bytes) else element for element in best]
    assert [text.split(":")[1:] for text in texts] == [["0", "benign"], ["1", "generated"]]


def test_a_deadline_that_cannot_be_kept_is_told(call: Call) -> None:
    refuses(call, "deadline", "504", "infer", MODEL, domains(), timeout=1)


def test_shared_memory_is_refused_with_its_place(call: Call) -> None:
    tensor = triton.InferInput("text", [2], "BYTES")
    tensor.set_shared_memory("mine", 64)
    refuses(call, r"inputs\[0\].parameters: shared memory", "400", "infer", MODEL, [tensor])


def test_a_sequence_keeps_its_state_between_requests(call: Call) -> None:
    rows = np.random.default_rng(0).normal(0, 0.1, (1, 288)).astype(np.float32)
    frame = triton.InferInput("input", [1, 288], "FP32").set_data_from_numpy(rows)

    def step(**flags: bool) -> float:
        answer = call("infer", "silero-vad", [frame], sequence_id=f"of {call.name}", **flags)
        return float(answer.as_numpy("output")[0, 0])

    first, second = step(sequence_start=True), step(sequence_end=True)
    assert first != second
    assert step(sequence_start=True, sequence_end=True) == first


def test_a_sequence_of_a_model_without_state_is_refused(call: Call) -> None:
    refuses(
        call, "keeps no state", "400", "infer", MODEL, domains(), sequence_id=1, sequence_start=True
    )


def test_the_clients_speak_tls(tmp_path: Path) -> None:
    pair = tmp_path / "tls.crt", tmp_path / "tls.key"
    write_pair(*pair)
    rows = np.ones((2, 4), np.float32)
    tensor = triton.InferInput("x", [2, 4], "FP32").set_data_from_numpy(rows)
    with in_process_platform(tmp_path, tls=pair) as running:
        for name in CLIENTS:
            answer = Call(name, running.port, pair[0])("infer", "doubler", [tensor])
            np.testing.assert_array_equal(answer.as_numpy("y"), 2 * rows)
