"""The sequence extension's parameters of infer bodies."""

from typing import Any

import orjson
import pytest
from loadtests.support.model_specs import model_spec, tensor_spec

from headrace.errors import BadRequest
from headrace.gateway.wire.infer import Codec, InferBody
from headrace.inference.request import SequenceStep


def codec(*, is_stateful: bool = True) -> Codec:
    x, state, total = (tensor_spec(name, shape=[2]) for name in ("x", "state", "total"))
    spec = model_spec(
        inputs=[x, state] if is_stateful else [x],
        outputs=[total],
        state=[{"input": "state", "output": "total"}] if is_stateful else [],
    )
    return Codec(spec)


def tensor(name: str = "x", rows: int = 1) -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": [rows, 2], "data": [0] * 2 * rows}


def read(
    parameters: dict[str, Any], *inputs: dict[str, Any], is_stateful: bool = True
) -> InferBody:
    body = orjson.dumps({"inputs": inputs or [tensor()], "parameters": parameters})
    return codec(is_stateful=is_stateful).decode(body, None)


@pytest.mark.parametrize(
    ("given", "means"),
    [
        (1, "1"),
        (2**63 - 1, str(2**63 - 1)),
        ("a", '"a"'),
        ("1", '"1"'),
        ("Ä ?" * 42, f'"{"Ä ?" * 42}"'),
    ],
)
def test_an_id_is_a_number_or_a_text_and_the_two_differ(given: object, means: str) -> None:
    assert read({"sequence_id": given}).sequence == SequenceStep(means)


@pytest.mark.parametrize(
    ("starts", "ends"), [(True, False), (False, True), (True, True), (False, False)]
)
def test_a_step_says_whether_it_starts_and_ends(*, starts: bool, ends: bool) -> None:
    asked = read({"sequence_id": 7, "sequence_start": starts, "sequence_end": ends})
    assert asked.sequence == SequenceStep("7", starts, ends)


@pytest.mark.parametrize("is_stateful", [True, False])
@pytest.mark.parametrize("more", [{}, {"sequence_start": False, "sequence_end": False}])
@pytest.mark.parametrize("absent", [{}, {"sequence_id": 0}, {"sequence_id": ""}])
def test_no_id_is_no_sequence(
    absent: dict[str, Any], more: dict[str, Any], *, is_stateful: bool
) -> None:
    assert read(absent | more, is_stateful=is_stateful).sequence is None


@pytest.mark.parametrize("is_stateful", [True, False])
@pytest.mark.parametrize("given", [-1, 2**63, 2**64, 1.0, True, "a" * 129, "a\n", "\u200e", "\x00"])
def test_what_is_no_id_is_refused(given: object, *, is_stateful: bool) -> None:
    body = b'{"inputs":[%b],"parameters":{"sequence_id":%b}}'
    value = b"18446744073709551616" if given == 2**64 else orjson.dumps(given)
    with pytest.raises(
        BadRequest, match=r"parameters.sequence_id: expected an integer of 0 or more or up to 128"
    ):
        codec(is_stateful=is_stateful).decode(body % (orjson.dumps(tensor()), value), None)


@pytest.mark.parametrize(
    ("parameters", "inputs", "says"),
    [
        (
            {"sequence_start": True},
            [tensor()],
            "parameters.sequence_id: expected an id beside sequence_start",
        ),
        (
            {"sequence_id": 0, "sequence_end": True},
            [tensor()],
            "parameters.sequence_id: expected an id beside",
        ),
        (
            {"sequence_id": 1, "sequence_start": 1},
            [tensor()],
            "parameters.sequence_start: expected true or false",
        ),
        (
            {"sequence_id": 1, "sequence_end": "yes"},
            [tensor()],
            "parameters.sequence_end: expected true or false",
        ),
        (
            {"sequence_id": 1},
            [tensor(), tensor("state")],
            'inputs: expected no "state" in a sequence',
        ),
        (
            {"sequence_id": 1},
            [tensor(rows=2)],
            "inputs[0].shape: axis 0: expected 1 row in a step of a sequence",
        ),
        (
            {"sequence_id": 1},
            [tensor(rows=0)],
            "inputs[0].shape: axis 0: expected 1 row in a step of a sequence",
        ),
    ],
)
def test_what_is_no_step_is_refused(
    parameters: dict[str, Any], inputs: list[dict[str, Any]], says: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        read(parameters, *inputs)
    assert refused.value.message.startswith(says)


def test_a_model_without_a_state_has_no_sequences() -> None:
    with pytest.raises(BadRequest, match="the model keeps no state between requests"):
        read({"sequence_id": 1, "sequence_start": True}, is_stateful=False)


def test_the_state_may_be_sent_where_there_is_no_sequence() -> None:
    assert [t.name for t in read({}, tensor(rows=3), tensor("state", 3)).inputs] == ["x", "state"]


def test_a_remembered_header_keeps_its_sequence() -> None:
    entry = {
        "name": "x",
        "datatype": "FP32",
        "shape": [1, 2],
        "parameters": {"binary_data_size": 8},
    }
    bodies = [
        orjson.dumps({"inputs": [entry], "parameters": {"sequence_id": n}}) for n in (1, 2, 1, 2)
    ]
    reader = codec()
    asked = [reader.decode(body + bytes(8), str(len(body))).sequence for body in bodies]
    assert asked == [SequenceStep(name) for name in ("1", "2", "1", "2")]
