"""Ids and lengths that a user's model rejects are their caller's error, and harm nobody else."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from time import monotonic

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tests.replica.machine import Machine

from headrace.backends import refuses_inputs
from headrace.errors import BadRequest, HeadraceError, InferenceFailed
from headrace.inference.request import Answer, Request
from headrace.inference.tensor import Array, from_array, to_array
from headrace.replica.host import Host
from headrace.replica.runner import PartResult, Runner
from headrace.telemetry.events import ReplicaEvents
from headrace_models.add import add
from headrace_models.repository import ModelVersion, read_version
from headrace_models.spec import InputSpec, ModelSpec, OutputSpec

WORDS, POSITIONS = 50, 300


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> ModelVersion:
    """`y` [n, t] from `ids` [n, t] and their positions, by tables of 50 ids and 300 positions."""
    folder = tmp_path_factory.mktemp("model")
    nodes = [
        helper.make_node("Gather", ["words", "ids"], ["word"]),
        helper.make_node("Shape", ["ids"], ["length"], start=1, end=2),
        helper.make_node("Slice", ["places", "zero", "length"], ["place"]),
        helper.make_node("Add", ["word", "place"], ["y"]),
    ]
    values = {
        "words": np.arange(WORDS, dtype=np.float32),
        "places": np.arange(POSITIONS, dtype=np.float32),
        "zero": np.array([0]),
    }
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "t"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "t"])]
    tables = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "words", inputs, outputs, tables)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        folder / "words.onnx",
    )
    return read_version(add(folder / "words.onnx", "words", folder / "repository"))


async def ask(host: Host, ids: Array) -> Answer | BaseException:
    request = Request([from_array("ids", ids)], (), monotonic() + 20)
    return (await asyncio.gather(host.infer(request), return_exceptions=True))[0]


@pytest.mark.parametrize(
    "wrong",
    [np.full((1, 8), WORDS), np.full((1, 8), 1 << 40), np.zeros((1, POSITIONS + 1), np.int64)],
    ids=["id", "large-id", "length"],
)
async def test_what_a_model_does_not_bear_is_refused_by_name_and_harms_no_batch_mate(
    version: ModelVersion, wrong: Array, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with Host(version, "onnx", ReplicaEvents()) as host:
        right = np.arange(wrong.shape[1])[np.newaxis] % WORDS
        right = right[:, :POSITIONS]
        told = await asyncio.gather(*(ask(host, wrong if n % 8 == 3 else right) for n in range(24)))
        assert host.health().is_ready
    expected = right[0] + np.arange(right.shape[1])
    for n, answer in enumerate(told):
        if n % 8 == 3:
            assert type(answer) is BadRequest
            assert (
                answer.message
                == 'input "ids": expected values and lengths that the model takes, found others'
            )
        else:
            assert isinstance(answer, Answer), answer
            np.testing.assert_array_equal(to_array(answer.outputs[0])[0], expected)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    told_of = [record.message for record in caplog.records if "were refused" in record.message]
    assert told_of
    assert not any(str(wrong[0, 0]) in text for text in told_of if wrong[0, 0]), (
        "values are their caller's"
    )


async def test_a_refused_request_counts_as_one_that_failed_and_the_model_goes_on(
    version: ModelVersion,
) -> None:
    async with Host(version, "onnx", ReplicaEvents()) as host:
        for _ in range(5):
            assert type(await ask(host, np.full((1, 8), WORDS))) is BadRequest
        assert isinstance(await ask(host, np.zeros((1, 8), np.int64)), Answer)
        assert host.health().is_ready
        stats = host.statistics().inference_stats
        assert (stats.success.count, stats.fail.count) == (1, 5)


SPEC = ModelSpec(
    name="m",
    version="1",
    weights={"onnx": "m.onnx"},
    golden="g.npz",
    inputs=(
        InputSpec(name="x", datatype="INT64", shape=()),
        InputSpec(name="z", datatype="INT64", shape=()),
    ),
    outputs=(OutputSpec(name="y", datatype="INT64", shape=()),),
    files={"m.onnx": "0" * 64, "g.npz": "0" * 64},
)


class Together:
    """Refuses whatever comes in company, which is no caller's fault, and what is 7 alone."""

    device = "cpu"
    lanes = 1

    def __init__(self, error: Exception) -> None:
        self._error = error

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        if len(inputs["x"]) > 1 or 7 in inputs["x"]:
            raise self._error
        return {"y": inputs["x"]}


def outcomes(error: Exception, numbers: Sequence[int]) -> list[object]:
    parts = [{"x": np.array([n]), "z": np.array([n])} for n in numbers]
    ran = Runner(Together(error), SPEC).run(parts, Machine(0.0, 0.0).tries(len(parts)))
    return [one.outputs["y"].tolist() if isinstance(one, PartResult) else type(one) for one in ran]


def test_only_who_fails_alone_is_refused() -> None:
    assert outcomes(RuntimeError("2 : INVALID_ARGUMENT : of the batch"), [5, 7, 6]) == [
        [5],
        BadRequest,
        [6],
    ]


class Table:
    """Knows fifty words; `runs` counts how often it was asked."""

    device = "cpu"
    lanes = 1

    def __init__(self, complaint: str = "INVALID_ARGUMENT") -> None:
        self._complaint = complaint
        self.runs = 0

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        self.runs += 1
        if (inputs["x"] >= WORDS).any():
            raise RuntimeError(self._complaint)
        return {"y": inputs["x"]}


@given(st.lists(st.booleans(), min_size=1, max_size=160))
def test_however_many_are_refused_the_others_are_answered(are_right: list[bool]) -> None:
    table = Table()
    parts = [
        {"x": np.array([n % WORDS if is_right else WORDS]), "z": np.array([0])}
        for n, is_right in enumerate(are_right)
    ]
    ran = Runner(table, SPEC).run(parts, Machine(0.0, 0.0).tries(len(parts)))
    told = [one.outputs["y"].tolist() if isinstance(one, PartResult) else type(one) for one in ran]
    assert told == [[n % WORDS] if is_right else BadRequest for n, is_right in enumerate(are_right)]
    assert table.runs <= 16 + 1.5 * len(parts)


def test_any_other_error_is_the_model_s() -> None:
    assert outcomes(ValueError("a fault"), [5, 7]) == [[5], InferenceFailed]


def test_all_inputs_are_named_where_any_may_be_at_fault() -> None:
    part = {"x": np.array([7]), "z": np.array([7])}
    (refused,) = Runner(Together(RuntimeError("MatMul dimension mismatch")), SPEC).run(
        [part], Machine(0.0, 0.0).tries(1)
    )
    assert isinstance(refused, HeadraceError)
    assert (
        refused.message
        == 'inputs "x", "z": expected values and lengths that the model takes, found others'
    )


@pytest.mark.parametrize(
    ("said", "is_of_inputs"),
    [
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : indices element out of data bounds", True),
        ("FAIL : Attempting to broadcast an axis by a dimension other than 1. 300 by 301", True),
        ("The input tensor cannot be reshaped to the requested shape", True),
        ("index out of range in self", True),
        ("mat1 and mat2 shapes cannot be multiplied (1x301 and 300x2)", True),
        ("list index out of range", False),
        ("CUDA failure 700: an illegal memory access", False),
        ("Exiting due to terminate flag being set to true", False),
        ("the model gave 3 rows for a batch of 2", False),
        ("", False),
    ],
)
def test_a_runtime_s_words_say_whether_it_is_about_the_inputs(
    said: str, *, is_of_inputs: bool
) -> None:
    assert refuses_inputs(RuntimeError(said)) == is_of_inputs
