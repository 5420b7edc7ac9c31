"""The sequence extension: a model's state stays in its replica, from start to end."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from loadtests.support.checkout import REPOSITORY
from loadtests.support.gated_backend import GateLoader
from loadtests.support.http_request import HttpAnswer
from loadtests.support.in_process_platform import InProcessPlatform, in_process_platform
from tests import data
from tests.conformance.small_models import make_accumulator
from tests.conformance.talk import get, post, refused, tensor

from headrace.keys.file import add_key
from headrace.keys.key import issue, utc_now

INFER = "/v2/models/accumulator/infer"
# A step of the sequence 71 that adds what is no number.
BROKEN = (
    b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[NaN,0]}],'
    b'"parameters":{"sequence_id":71}}'
)
LIMITS = {"max_open": 3, "max_idle_s": 60}
OLD, NEW = 32, 256  # samples of a frame at 8 kHz: of the one before it, and its own


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    """A gateway before `accumulator`."""
    with in_process_platform(tmp_path_factory.mktemp("sums"), make=make_accumulator) as running:
        yield running


def step(
    running: InProcessPlatform,
    number: float,
    sequence_id: object,
    *flags: str,
    key: str = "",
    **more: Any,
) -> HttpAnswer:
    """A step that adds `number`; `flags` are "start" and "end"."""
    parameters = {"sequence_id": sequence_id, **{f"sequence_{flag}": True for flag in flags}}
    document = {"inputs": [tensor("x", [1, 2], [number, 0])], "parameters": parameters, **more}
    return post(running.port, INFER, document, {"Authorization": f"Bearer {key}"} if key else {})


def total(said: HttpAnswer) -> float:
    assert said.status == 200, said.body
    ((first, _),) = [output["data"] for output in said.json["outputs"]]
    return float(first)


def metric(address: str, name: str) -> float:
    """The one sample of this name at `host:port`."""
    page = get(int(address.rpartition(":")[2]), "/metrics").body.decode()
    (line,) = [
        line for line in page.splitlines() if line.partition("{")[0].partition(" ")[0] == name
    ]
    return float(line.rpartition(" ")[2])


def test_a_state_that_is_no_number_any_more_harms_no_other_sequence(
    sums: InProcessPlatform,
) -> None:
    for n in (71, 72):
        step(sums, 1, n, "start")
    broken = post(sums.port, INFER, BROKEN)
    assert broken.json["outputs"][0]["data"] == [None, 0.0]
    for n in range(20):  # steps of both, at the same time
        answers = together(lambda: step(sums, 1, 71), lambda: step(sums, 1, 72))
        assert [said.json["outputs"][0]["data"] for said in answers] == [
            [None, 0.0],
            [2.0 + n, 0.0],
        ]
    assert total(step(sums, 5, 71, "start", "end")) == 5
    step(sums, 1, 72, "end")


def together(*asks: Callable[[], HttpAnswer]) -> list[HttpAnswer]:
    with ThreadPoolExecutor(len(asks)) as pool:
        return [asked.result(30) for asked in [pool.submit(ask) for ask in asks]]


def test_sequence_needs_start(sums: InProcessPlatform) -> None:
    said = step(sums, 1, 7)
    assert refused(said, 400, "sequence_unknown")
    assert "sequence 7: expected sequence_start" in said.json["error"]
    assert refused(step(sums, 1, 7, "end"), 400, "sequence_unknown")
    assert total(step(sums, 1, 7, "start", "end")) == 1
    assert refused(step(sums, 1, 7), 400, "sequence_unknown")


def test_sequence_keeps_its_state_until_it_ends_or_starts_again(sums: InProcessPlatform) -> None:
    steps: list[tuple[float, list[str]]] = [
        (1, ["start"]),
        (2, []),
        (4, []),
        (8, ["start"]),
        (16, ["end"]),
    ]
    assert [total(step(sums, number, 8, *flags)) for number, flags in steps] == [1, 3, 7, 8, 24]


def test_sequence_string_id(sums: InProcessPlatform) -> None:
    assert total(step(sums, 1, "a stream", "start")) == 1
    assert total(step(sums, 2, "9", "start")) == 2
    assert total(step(sums, 4, 9, "start")) == 4
    assert [total(step(sums, 8, name, "end")) for name in ("a stream", "9", 9)] == [9, 10, 12]


def test_sequence_0_and_an_empty_one_are_none(sums: InProcessPlatform) -> None:
    for nothing in (0, ""):
        for _ in range(2):
            assert total(step(sums, 1, nothing)) == 1


def test_a_state_is_no_input_that_a_client_is_told_of(sums: InProcessPlatform) -> None:
    """Triton's clients send all inputs that they are told of, in every step."""
    assert [each["name"] for each in get(sums.port, "/v2/models/accumulator").json["inputs"]] == [
        "x"
    ]
    config = get(sums.port, "/v2/models/accumulator/config").json
    assert [each["name"] for each in config["input"]] == ["x"]
    assert [each["input_name"] for each in config["sequence_batching"]["state"]] == ["state"]


def test_sequence_state_is_not_the_callers_to_send(sums: InProcessPlatform) -> None:
    inputs = [tensor("x", [1, 2], [1, 0]), tensor("state", [1, 2], [1, 0])]
    assert refused(step(sums, 1, 10, "start", inputs=inputs), 400, "bad_request")
    assert refused(
        step(sums, 1, 10, "start", inputs=[tensor("x", [2, 2], [1] * 4)]), 400, "bad_request"
    )


def test_sequences_of_a_generate_request_are_the_same(sums: InProcessPlatform) -> None:
    for expected, flags in ((1, {"sequence_start": True}), (2, {"sequence_end": True})):
        body = {"x": [1, 0], "parameters": {"sequence_id": 11, **flags}}
        assert post(sums.port, "/v2/models/accumulator/generate", body).json["total"] == [
            expected,
            0,
        ]


def test_sequence_order(tmp_path: Path) -> None:
    """Steps that wait run in the order of their coming; each sees what the one before it left."""
    loader = GateLoader()
    with in_process_platform(tmp_path, load=loader, make=make_accumulator) as running:
        assert total(step(running, 1, 1, "start")) == 1
        model = loader.backend
        model.shut()
        totals: dict[float, float] = {}

        def ask(number: float) -> None:
            totals[number] = total(step(running, number, 1))

        callers = [threading.Thread(target=ask, args=(10**n,)) for n in (1, 2, 3)]
        try:
            for number, caller in enumerate(callers, 1):
                caller.start()
                assert model.entered.wait(5)
                while metric(running.gateway.metrics, "headrace_requests_in_flight") < number:
                    assert caller.is_alive()
        finally:
            model.open()
        for caller in callers:
            caller.join(20)
        assert (totals, model.rows) == ({10: 11, 100: 111, 1000: 1111}, [10, 100, 1000])


def test_sequence_idle_timeout(tmp_path: Path) -> None:
    make = partial(make_accumulator, sequence={"max_idle_s": 0.02})
    with in_process_platform(tmp_path, make=make) as running:
        assert total(step(running, 1, 1, "start")) == 1
        while metric(running.metrics, "headrace_sequences_expired_total") < 1:
            assert running.replica_thread.is_alive
        assert metric(running.metrics, "headrace_sequences_open") == 0
        assert refused(step(running, 1, 1), 400, "sequence_unknown")
        config = get(running.port, "/v2/models/accumulator/config").json
        assert config["sequence_batching"]["max_sequence_idle_microseconds"] == 20_000


def test_sequences_belong_to_their_key_and_are_so_many(tmp_path: Path) -> None:
    issued = [issue(name, utc_now()) for name in ("ann", "bob")]
    for key, _ in issued:
        add_key(tmp_path / "keys.json", key)
    ann, bob = (text for _, text in issued)
    with in_process_platform(
        tmp_path, keys=tmp_path / "keys.json", make=partial(make_accumulator, sequence=LIMITS)
    ) as running:
        for name in (1, 2, 3):
            assert total(step(running, name, name, "start", key=ann)) == name
        assert refused(step(running, 1, 1, key=bob), 400, "sequence_unknown")
        said = step(running, 4, 4, "start", key=ann)
        assert refused(said, 429, "quota_exceeded")
        assert said.headers["retry-after"]
        assert total(step(running, 5, 1, "start", key=bob)) == 5
        assert total(step(running, 1, 1, "end", key=ann)) == 2
        assert total(step(running, 4, 4, "start", key=ann)) == 4
        assert metric(running.metrics, "headrace_sequences_open") == 4


def test_sequences_are_announced(sums: InProcessPlatform) -> None:
    assert {"sequence", "sequence(string_id)"} <= set(get(sums.port, "/v2").json["extensions"])
    config = get(sums.port, "/v2/models/accumulator/config").json
    batching = config["sequence_batching"]
    assert "dynamic_batching" not in config
    assert batching["oldest"]["max_candidate_sequences"] == 100
    state = {"input_name": "state", "output_name": "total", "data_type": "TYPE_FP32", "dims": [2]}
    assert (batching["state"], batching["max_sequence_idle_microseconds"]) == ([state], 60_000_000)


@pytest.fixture(scope="module")
def silero(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessPlatform]:
    version = REPOSITORY / "silero-vad" / "1"
    if not version.is_dir():
        pytest.skip(f"silero-vad is not built: no {version}")
    with in_process_platform(
        tmp_path_factory.mktemp("silero"), make=lambda _, __: version.resolve()
    ) as running:
        yield running


def frames(sound: "np.ndarray") -> list["np.ndarray"]:
    """A clip's steps, FP32 [1, 288] each."""
    padded = np.pad(sound, (OLD, -len(sound) % NEW))
    return [padded[None, place : place + OLD + NEW] for place in range(0, len(padded) - OLD, NEW)]


def inputs_of(*, binary: bool, **tensors: "np.ndarray") -> list[Any]:
    inputs = []
    for name, array in tensors.items():
        inputs.append(triton.InferInput(name, list(array.shape), "FP32"))
        inputs[-1].set_data_from_numpy(array, binary_data=binary)
    return inputs


@pytest.mark.zoo
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("sequence_id", [5, "a prompt"], ids=["number", "text"])
def test_a_clip_as_a_sequence_of_the_triton_client_is_the_clip_with_its_state_carried_by_hand(
    silero: InProcessPlatform, sequence_id: int | str, *, binary: bool
) -> None:
    steps = frames(data.samples(data.spoken_prompts()[0]))[:60]
    client = triton.InferenceServerClient(f"127.0.0.1:{silero.port}")
    state = np.zeros((1, 2, 128), np.float32)
    highest = 0.0
    for n, frame in enumerate(steps):
        by_hand = client.infer("silero-vad", inputs_of(binary=binary, input=frame, state=state))
        state = by_hand.as_numpy("stateN")
        kept = client.infer(
            "silero-vad",
            inputs_of(binary=binary, input=frame),
            sequence_id=sequence_id,
            sequence_start=n == 0,
            sequence_end=n == len(steps) - 1,
        )
        np.testing.assert_array_equal(kept.as_numpy("stateN"), state)
        np.testing.assert_array_equal(kept.as_numpy("output"), by_hand.as_numpy("output"))
        highest = max(highest, float(kept.as_numpy("output")[0, 0]))
    assert highest > 0.5
    assert metric(silero.metrics, "headrace_sequences_open") == 0
    client.close()
