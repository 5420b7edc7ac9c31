"""The warm-up of a loaded model: the promises of its spec that a replica takes back."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.models.graphs import FLOAT, INT64, Value, node, save

from headrace import backends
from headrace.errors import OutOfMemory
from headrace.inference.request import Request
from headrace.inference.tensor import Array, from_array, to_array
from headrace.replica.host import Host
from headrace.replica.warm_up import warm_up
from headrace.telemetry.events import ReplicaEvents
from headrace_models import independence
from headrace_models.publishing import Draft, write_version
from headrace_models.repository import ModelVersion, read_version
from headrace_models.spec import ModelSpec

KINDS = {FLOAT: "FP32", INT64: "INT64"}
X: Value = ("x", FLOAT, ["n", 3])
Y: Value = ("y", FLOAT, ["n", 3])
IDS: Value = ("x", INT64, ["n", "t"])
SUM: Value = ("y", INT64, ["n"])
NOISE = {"x": np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)}
TOKENS = {"x": np.array([[1, 2, 3, 4], [5, 6, 7, 8]])}


def made(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    golden: Mapping[str, Array],
    inputs: Sequence[Value] = (X,),
    outputs: Sequence[Value] = (Y,),
    constants: Mapping[str, Any] | None = None,
    tensor: Mapping[str, object] | None = None,
    **more: Any,
) -> ModelVersion:
    """A version written by hand; `tensor` adds to its inputs. Tensors have rows by default."""

    def described(value: Value) -> dict[str, object]:
        axes = [axis if isinstance(axis, int) else -1 for axis in (value[2] or ())]
        return {"name": value[0], "datatype": KINDS[value[1] or FLOAT], "shape": axes[1:]}

    def make(making: Path) -> Draft:
        save(making / "model.onnx", nodes, inputs, outputs, **(constants or {}))
        document = {"name": "m", "version": "1", "weights": {"onnx": "model.onnx"}, **more}
        sides: dict[str, object] = {
            "inputs": [{**described(v), **(tensor or {})} for v in inputs],
            "outputs": [described(v) for v in outputs],
        }
        return Draft(document | sides, golden)

    return read_version(write_version(folder, "m", "1", make))


def proved(version: ModelVersion) -> ModelSpec:
    return warm_up(backends.load(version, "onnx"), version).version.spec


def ask(**inputs: Array) -> Request:
    return Request(
        [from_array(name, array) for name, array in inputs.items()], (), monotonic() + 10
    )


SOFTMAX = [node("Softmax", axis=0)]


def test_a_spec_that_says_nothing_of_rows_is_proved_at_load(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert proved(made(tmp_path / "sound", [node("Relu")], NOISE)).is_batched
    with caplog.at_level(logging.WARNING):
        found = proved(made(tmp_path / "mixing", SOFTMAX, NOISE))
    assert (found.is_batched, found.batching.rows) == (False, "none")
    assert 'm 1: output "y" of a row depends on the rows beside it (differs by' in caplog.text
    assert "; served one request at a time" in caplog.text


def test_one_golden_row_is_enough_to_see_that_rows_interact(tmp_path: Path) -> None:
    nodes = [node("ReduceMean", "x", "m", axes=[0]), node("Sub", "x m")]
    assert not proved(made(tmp_path, nodes, {"x": NOISE["x"][:1]})).is_batched


def test_what_shows_only_in_a_full_batch_is_seen(tmp_path: Path) -> None:
    """Up to 30 rows it is what it should be."""
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "rows"),
        node("Greater", "rows thirty", "is_large"),
        node("Cast", "is_large", "c", to=FLOAT),
        node("Add", "x c"),
    ]
    constants = {"zero": np.int64(0), "thirty": np.int64(30)}
    assert proved(
        made(tmp_path / "30", nodes, NOISE, constants=constants, batching={"max_rows": 30})
    ).is_batched
    assert not proved(
        made(tmp_path / "32", nodes, NOISE, constants=constants, batching={"max_rows": 32})
    ).is_batched


class Counting:
    """A backend that remembers how many rows it ran at once, and bears `most`."""

    def __init__(
        self, backend: backends.Backend, most: int = 64, error: type[Exception] = RuntimeError
    ) -> None:
        self._backend = backend
        self._most = most
        self._error = error
        self.device, self.lanes = backend.device, backend.lanes
        self.rows: list[int] = []

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        self.rows.append(len(inputs["x"]))
        if len(inputs["x"]) > self._most:
            raise self._error("too many rows")
        return self._backend.run(inputs)


SOUND = [node("Relu")]
MIXING_FORWARDS, MIXING_BACKWARDS = ([node("CumSum", "x zero", reverse=way)] for way in (0, 1))


@pytest.mark.parametrize("nodes", [SOUND, SOFTMAX, MIXING_FORWARDS, MIXING_BACKWARDS])
@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_no_more_rows_are_compared_than_will_ever_meet(
    tmp_path: Path, most: int, nodes: Sequence[onnx.NodeProto]
) -> None:
    golden, constants = {"x": NOISE["x"][:1]}, {"zero": np.int64(0)}
    version = made(tmp_path, nodes, golden, constants=constants, batching={"max_rows": most})
    backend = Counting(backends.load(version, "onnx"))
    spec = warm_up(backend, version).version.spec
    assert spec.is_batched == (most == 1 or nodes is SOUND)
    assert max(backend.rows) == (most if spec.is_batched else 2)


@pytest.mark.parametrize("most", [3, 10])
def test_a_slow_model_that_bears_no_full_batch_is_served_one_request_at_a_time(
    tmp_path: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(independence, "SLOW_S", -1.0)
    version = made(tmp_path, SOUND, NOISE, batching={"max_rows": 10})
    backend = Counting(backends.load(version, "onnx"), most)
    assert warm_up(backend, version).version.spec.is_batched == (most == 10)
    assert set(backend.rows) == {1, 2, 3, 10}
    assert backend.rows.count(10) == 1


@pytest.mark.parametrize("error", [OutOfMemory, MemoryError])
@pytest.mark.parametrize("rows", [None, "independent"])
@pytest.mark.parametrize(("room", "most"), [(64, 64), (63, 32), (32, 32), (20, 16), (5, 4), (1, 1)])
def test_where_a_full_batch_finds_no_room_a_smaller_one_is_full(
    tmp_path: Path,
    rows: str | None,
    room: int,
    most: int,
    error: type[Exception],
    caplog: pytest.LogCaptureFixture,
) -> None:
    batching: dict[str, object] = {"max_rows": 64} | ({"rows": rows} if rows else {})
    version = made(tmp_path, SOUND, {"x": NOISE["x"][:1]}, batching=batching)
    with caplog.at_level(logging.WARNING):
        warmed_up = warm_up(Counting(backends.load(version, "onnx"), room, error), version)
    spec = warmed_up.version.spec
    assert (spec.is_batched, spec.batching.max_rows) == (True, most)
    assert max(cells for cells, _ in warmed_up.seen) == most
    assert ("too little memory" in caplog.text) == (most < 64)
    assert "one request at a time" not in caplog.text


def test_a_model_without_room_for_one_row_is_not_served(tmp_path: Path) -> None:
    version = made(tmp_path, SOUND, {"x": NOISE["x"][:1]})
    with pytest.raises(OutOfMemory):
        warm_up(Counting(backends.load(version, "onnx"), 0, OutOfMemory), version)


async def test_rows_that_interact_do_not_meet_where_a_batch_has_one_row(tmp_path: Path) -> None:
    version = made(tmp_path, SOFTMAX, {"x": NOISE["x"][:1]}, batching={"max_rows": 1})
    (found,) = await answers(version, [ask(x=np.ones((3, 3), np.float32))])
    assert found == [[1, 1, 1]] * 3


@pytest.mark.parametrize("rows", ["independent", "none"])
def test_what_is_written_by_hand_is_not_checked(tmp_path: Path, rows: str) -> None:
    for folder, nodes in (("sound", [node("Relu")]), ("mixing", SOFTMAX)):
        spec = proved(made(tmp_path / folder, nodes, NOISE, batching={"rows": rows}))
        assert spec.is_batched == (rows == "independent")


async def answers(version: ModelVersion, requests: Sequence[Request]) -> list[list[Any]]:
    """The first output of each, of requests that are all there at once."""
    async with Host(version, "onnx", ReplicaEvents()) as host:
        told = await asyncio.gather(*map(host.infer, requests))
    return [to_array(answer.outputs[0]).tolist() for answer in told]


async def test_requests_of_a_model_whose_rows_interact_never_meet(tmp_path: Path) -> None:
    version = made(tmp_path, SOFTMAX, NOISE)
    rows = [
        np.random.default_rng(n).normal(size=(1 + n % 3, 3)).astype(np.float32) for n in range(24)
    ]
    backend = backends.load(version, "onnx")
    expected = [backend.run({"x": x})["y"].tolist() for x in rows]
    assert await answers(version, [ask(x=x) for x in rows]) == expected


async def test_what_a_request_is_counted_as_where_there_are_no_rows(tmp_path: Path) -> None:
    version = made(tmp_path, SOFTMAX, NOISE)
    async with Host(version, "onnx", ReplicaEvents()) as host:
        for rows in (1, 3):
            answer = await host.infer(ask(x=np.ones((rows, 3), np.float32)))
            assert answer.times.batch_rows == 1
        told = host.statistics()
    assert (told.inference_count, told.execution_count) == (2, 2)
    assert [size.batch_size for size in told.batch_stats] == [1]


async def test_a_request_larger_than_any_batch_stays_whole(tmp_path: Path) -> None:
    version = made(tmp_path, SOFTMAX, NOISE, batching={"max_rows": 2, "max_waiting_rows": 2})
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    (found,) = await answers(version, [ask(x=x)])
    np.testing.assert_allclose(np.sum(found, axis=0), 1, rtol=1e-5)


async def test_rows_that_depend_on_the_data_are_answered_again_and_again(tmp_path: Path) -> None:
    nodes = [node("Greater", "x zero", "c"), node("Compress", "x c")]
    outputs: list[Value] = [("y", FLOAT, ["k"])]
    version = made(
        tmp_path,
        nodes,
        {"x": NOISE["x"].ravel()},
        [("x", FLOAT, ["n"])],
        outputs,
        {"zero": np.float32(0)},
    )
    async with Host(version, "onnx", ReplicaEvents()) as host:
        for x in (NOISE["x"].ravel(), np.array([-1, -2], np.float32), NOISE["x"].ravel()):
            answer = await host.infer(ask(x=x))
            assert to_array(answer.outputs[0]).tolist() == x[x > 0].tolist()
        assert host.health().is_ready


async def test_a_state_of_a_model_without_rows_starts_from_zeros(tmp_path: Path) -> None:
    def make(making: Path) -> Draft:
        state: list[Value] = [("h", FLOAT, [2, 1, 3]), ("h_next", FLOAT, [2, 1, 3])]
        nodes = [node("Add", "h x", "h_next"), node("ReduceSum", "h_next zero", "y", keepdims=0)]
        save(
            making / "model.onnx",
            nodes,
            [("x", FLOAT, ["n", 3]), state[0]],
            [Y, state[1]],
            zero=np.array([0]),
        )
        whole = {"datatype": "FP32", "shape": [2, 1, 3], "has_rows": False}
        own = {"datatype": "FP32", "shape": [3]}
        document: dict[str, object] = {
            "name": "m",
            "version": "1",
            "weights": {"onnx": "model.onnx"},
            "inputs": [{"name": "x", **own}, {"name": "h", **whole}],
            "outputs": [{"name": "y", **own}, {"name": "h_next", **whole}],
            "state": [{"input": "h", "output": "h_next"}],
        }
        return Draft(document, {"x": NOISE["x"][:1], "h": np.zeros((2, 1, 3), np.float32)})

    version = read_version(write_version(tmp_path, "m", "1", make))
    (found,) = await answers(version, [ask(x=np.ones((1, 3), np.float32))])
    assert found == [[2, 2, 2]]


ADD_UP = helper.make_node("ReduceSum", ["x", "one"], ["y"], keepdims=0)
AXIS = {"one": np.array([1])}


def test_a_pad_that_changes_answers_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def padded_with(pad: int, **more: object) -> ModelSpec:
        tensor = {"pad": pad, **more}
        return proved(made(tmp_path / f"{pad}", [ADD_UP], TOKENS, [IDS], [SUM], AXIS, tensor))

    assert padded_with(0).inputs[0].pad == 0
    with caplog.at_level(logging.WARNING):
        found = padded_with(7)
    assert (found.inputs[0].pad, found.is_batched) == (None, True)
    assert (
        'm 1: padding changes output "y" of a row; only rows of equal shape share a batch'
        in caplog.text
    )
    # No longer row than the golden ones may come: a shorter one is tried beside them.
    assert padded_with(8, max_length=4).inputs[0].pad is None
    assert padded_with(9, lengths=[2, 4]).inputs[0].pad is None


async def test_rows_whose_pad_is_not_believed_are_right_all_the_same(tmp_path: Path) -> None:
    version = made(tmp_path, [ADD_UP], TOKENS, [IDS], [SUM], AXIS, {"pad": 7})
    found = await answers(version, [ask(x=np.full((1, length), length)) for length in range(1, 10)])
    assert found == [[n * n] for n in range(1, 10)]
