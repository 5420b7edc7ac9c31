"""A host answers all that it accepted: beside poison, while it drains, in the model's form."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import onnx
import pytest
from loadtests.support.gated_backend import GateLoader
from onnx import TensorProto, helper, numpy_helper
from tests.channel.replicas import TOKEN, ask, until

from headrace.channel import serve
from headrace.channel.encoding import Decoder, encode
from headrace.channel.frames import NOBODY, Frame, Reply, Started, Welcome
from headrace.channel.greeting import Greeting
from headrace.errors import BadImage, BadRequest, DeadlineExceeded, ImageTooLarge
from headrace.inference.request import Request
from headrace.inference.tensor import Array, Tensor, from_array, pack_bytes, to_array
from headrace.replica.host import Host
from headrace.telemetry.events import ReplicaEvents
from headrace_models.publishing import Draft, write_version
from headrace_models.repository import ModelVersion, read_version

Write = Callable[..., ModelVersion]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a version whose weights are some nodes; `golden` are its golden inputs."""

    def write(
        nodes: Sequence[onnx.NodeProto],
        inputs: Sequence[dict[str, Any]],
        outputs: Sequence[dict[str, Any]],
        golden: Mapping[str, Array],
        constants: Mapping[str, Array] | None = None,
        **more: Any,
    ) -> ModelVersion:
        def make(folder: Path) -> Draft:
            held = [
                numpy_helper.from_array(value, name) for name, value in (constants or {}).items()
            ]
            values = [[_value(tensor) for tensor in side] for side in (inputs, outputs)]
            graph = helper.make_graph(nodes, "m", values[0], values[1], held)
            model = helper.make_model(
                graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
            )
            onnx.save(model, str(folder / "model.onnx"))
            document = {"name": "m", "version": "1", "weights": {"onnx": "model.onnx"}, **more}
            return Draft(document | {"inputs": list(inputs), "outputs": list(outputs)}, golden)

        return read_version(write_version(tmp_path, "m", "1", make))

    return write


def _value(tensor: dict[str, Any]) -> onnx.ValueInfoProto:
    kinds = {"FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE, "INT64": TensorProto.INT64}
    axes = [
        "n",
        *(
            f"{tensor['name']}_{i}" if axis == -1 else axis
            for i, axis in enumerate(tensor["shape"])
        ),
    ]
    return helper.make_tensor_value_info(tensor["name"], kinds[tensor["datatype"]], axes)


def tensor(name: str, datatype: str, *shape: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape), **more}


@pytest.fixture
def looking_up(write: Write) -> ModelVersion:
    """ids INT64 [n, 1] -> y FP32 [n, 1, 1]: a table of 10 rows. Other ids raise."""
    table = np.arange(10, dtype=np.float32)[:, None]
    return write(
        [helper.make_node("Gather", ["table", "ids"], ["y"], axis=0)],
        [tensor("ids", "INT64", 1)],
        [tensor("y", "FP32", 1, 1)],
        {"ids": np.array([[1], [2]])},
        {"table": table},
        batching={"max_rows": 16, "max_waiting_rows": 64},
    )


def lookup(*ids: int, seconds: float = 10.0) -> Request:
    return Request([from_array("ids", np.array(ids)[:, None])], (), monotonic() + seconds)


class Gate(GateLoader):
    async def shut_in(self, host: Host) -> "asyncio.Task[Any]":
        """A request that is inside the model, whose gate is shut."""
        self.backend.shut()
        asked = asyncio.create_task(host.infer(lookup(0)))
        assert await asyncio.to_thread(self.backend.entered.wait, 5)
        return asked


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def test_a_strangers_poison_never_reaches_its_batch_mates(
    looking_up: ModelVersion, gate: Gate
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with Host(looking_up, "onnx", ReplicaEvents(), gate) as host:
        first = await gate.shut_in(host)
        asked = [asyncio.create_task(host.infer(lookup(n))) for n in (3, 999, 4, 5)]
        await asyncio.sleep(0)
        gate.backend.open()
        await first
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(outcomes[1], BadRequest)
    answered = [o for i, o in enumerate(outcomes) if i != 1]
    assert [
        a if isinstance(a, BaseException) else float(to_array(a.outputs[0])[0, 0, 0])
        for a in answered
    ] == [
        3,
        4,
        5,
    ]


async def test_a_request_that_can_never_fit_the_line_is_the_callers_mistake(
    looking_up: ModelVersion,
) -> None:
    """Told "overloaded, try again" it would try for ever."""
    async with Host(looking_up, "onnx", ReplicaEvents()) as host:
        with pytest.raises(BadRequest):
            await host.infer(lookup(*[0] * 65))
        assert (await host.infer(lookup(*[0] * 64))).outputs[0].shape == (64, 1, 1)


async def test_a_drain_waits_until_requests_of_several_batches_are_answered(
    looking_up: ModelVersion, gate: Gate
) -> None:
    async with Host(looking_up, "onnx", ReplicaEvents(), gate) as host:
        first = await gate.shut_in(host)
        split = asyncio.create_task(host.infer(lookup(*[7] * 40)))
        await asyncio.sleep(0)

        async def drain() -> tuple[bool, bool]:
            await host.drain()
            return first.done(), split.done()

        draining = asyncio.create_task(drain())
        await asyncio.sleep(0)
        gate.backend.open()
        assert await draining == (True, True)


async def test_a_cancelled_request_of_several_batches_frees_its_room(
    looking_up: ModelVersion, gate: Gate
) -> None:
    async with Host(looking_up, "onnx", ReplicaEvents(), gate) as host:
        first = await gate.shut_in(host)
        asked = asyncio.create_task(host.infer(lookup(*[7] * 64)))
        await asyncio.sleep(0)
        assert host.health().waiting_rows == 64
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await asyncio.sleep(0)
        assert host.health().waiting_rows == 0
        gate.backend.open()
        await first


async def test_a_request_waits_no_longer_than_its_deadline_though_the_model_is_stuck(
    looking_up: ModelVersion, gate: Gate
) -> None:
    async with Host(looking_up, "onnx", ReplicaEvents(), gate) as host:
        first = await gate.shut_in(host)
        for rows in (1, 40):
            with pytest.raises(DeadlineExceeded):
                await host.infer(lookup(*[7] * rows, seconds=0.01))
        gate.backend.open()
        await first


async def test_outputs_come_as_asked_for(looking_up: ModelVersion) -> None:
    async with Host(looking_up, "onnx", ReplicaEvents()) as host:
        answer = await host.infer(
            Request([from_array("ids", np.array([[1]]))], ("y",), monotonic() + 5, request_id="r")
        )
    assert [t.name for t in answer.outputs] == ["y"]


async def test_bytes_that_do_not_fit_their_shape_are_a_bad_request(
    looking_up: ModelVersion,
) -> None:
    async with Host(looking_up, "onnx", ReplicaEvents()) as host:
        with pytest.raises(BadRequest, match="expected 16 bytes for its shape, found 8"):
            await host.infer(
                Request([Tensor("ids", "INT64", (2, 1), bytes(8))], (), monotonic() + 5)
            )


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
async def test_a_state_that_is_left_out_starts_from_zeros(write: Write, datatype: str) -> None:
    dtype = {"FP32": np.float32, "FP64": np.float64}[datatype]
    version = write(
        [
            helper.make_node("Add", ["x", "before"], ["after"]),
            helper.make_node("Identity", ["after"], ["y"]),
        ],
        [tensor("x", datatype, 2), tensor("before", datatype, 2)],
        [tensor("y", datatype, 2), tensor("after", datatype, 2)],
        {"x": np.ones((2, 2), dtype), "before": np.ones((2, 2), dtype)},
        state=[{"input": "before", "output": "after"}],
    )
    x = from_array("x", np.full((3, 2), 5, dtype))
    async with Host(version, "onnx", ReplicaEvents()) as host:
        fresh = await host.infer(Request([x], ("after",), monotonic() + 5))
        carried = await host.infer(
            Request(
                [x, Tensor("before", datatype, (3, 2), fresh.outputs[0].data)],
                ("y",),
                monotonic() + 5,
            )
        )
    np.testing.assert_array_equal(to_array(fresh.outputs[0]), np.full((3, 2), 5))
    np.testing.assert_array_equal(to_array(carried.outputs[0]), np.full((3, 2), 10))


@pytest.fixture
def summing(write: Write) -> ModelVersion:
    """ids and mask INT64 [n, *] -> y [n]: the sum of the ids under the mask."""
    return write(
        [
            helper.make_node("Mul", ["ids", "mask"], ["masked"]),
            helper.make_node("ReduceSum", ["masked", "axes"], ["y"], keepdims=0),
        ],
        [
            tensor("ids", "INT64", -1, max_length=9, pad=77.0),
            tensor("mask", "INT64", -1, max_length=9, pad=0.0),
        ],
        [tensor("y", "INT64")],
        {"ids": np.ones((2, 4), np.int64), "mask": np.ones((2, 4), np.int64)},
        {"axes": np.array([1])},
    )


async def test_a_suspect_runs_alone_and_is_told_of_when_all_before_it_is_answered(
    looking_up: ModelVersion, gate: Gate, tmp_path: Path
) -> None:
    unix = str(tmp_path / "replica.sock")
    seen: list[Frame] = []
    async with (
        Host(looking_up, "onnx", ReplicaEvents(), gate) as host,
        serve(host, Welcome("tiny", "1"), TOKEN, unix, ""),
    ):
        reader, writer = await asyncio.open_unix_connection(unix)
        writer.write(b"".join(map(bytes, encode(Greeting(TOKEN, unix).hello))))
        first = await gate.shut_in(host)
        gate.backend.sizes.clear()
        for number in (1, 2, 3):
            writer.write(ask(number, lookup(number).inputs, seconds=5, runs_alone=number == 2))
        await until(lambda: host.health().waiting_rows == 3)
        gate.backend.open()
        await first
        decoder = Decoder()
        decoder.trust()
        while len(seen) < 6:
            seen += [frame for frame, _ in decoder.feed(await reader.read(1000))]
        writer.close()
    assert [frame.id for frame in seen if isinstance(frame, Reply | Started)] == [
        1,
        3,
        2,
        NOBODY,
        2,
    ]
    assert [type(frame) for frame in seen[3:]] == [Started, Started, Reply]
    assert sorted(gate.backend.sizes) == [1, 2]


async def test_padded_rows_are_answered_as_they_would_be_alone(
    summing: ModelVersion, gate: Gate
) -> None:
    def ask(length: int) -> Request:
        ids, mask = np.full((1, length), length), np.ones((1, length), np.int64)
        return Request([from_array("ids", ids), from_array("mask", mask)], (), monotonic() + 5)

    async with Host(summing, "onnx", ReplicaEvents(), gate) as host:
        gate.backend.sizes.clear()
        answers = await asyncio.gather(*(host.infer(ask(length)) for length in range(1, 10)))
    assert [to_array(a.outputs[0]).tolist() for a in answers] == [[n * n] for n in range(1, 10)]
    assert sum(gate.backend.sizes) == 9


@pytest.fixture
def spelling(write: Write) -> ModelVersion:
    """Texts -> their characters' places in "abc"."""
    return write(
        [helper.make_node("ReduceSum", ["ids", "axes"], ["y"], keepdims=0)],
        [tensor("ids", "INT64", -1, pad=0.0)],
        [tensor("y", "INT64")],
        {"ids": np.ones((2, 4), np.int64)},
        {"axes": np.array([1])},
        preprocess={"kind": "characters", "output": "ids", "alphabet": "_abc", "max_chars": 8},
    )


def texts(*said: bytes) -> Request:
    return Request([Tensor("text", "BYTES", (len(said),), pack_bytes(said))], (), monotonic() + 5)


async def test_texts_become_tensors_and_each_gets_its_own_answer(spelling: ModelVersion) -> None:
    async with Host(spelling, "onnx", ReplicaEvents()) as host:
        answer = await host.infer(texts(b"a", b"cc", b"abc"))
    assert to_array(answer.outputs[0]).tolist() == [1, 6, 6]
    assert answer.times.preprocess_s > 0


@pytest.mark.parametrize("wrong", [b"\xff\xfe", b"a" * 9])
async def test_a_text_that_cannot_be_read_is_a_bad_request(
    spelling: ModelVersion, wrong: bytes
) -> None:
    async with Host(spelling, "onnx", ReplicaEvents()) as host:
        with pytest.raises(BadRequest, match=r"input\[1\]: "):
            await host.infer(texts(b"a", wrong))


@pytest.fixture
def looking(write: Write) -> ModelVersion:
    """Photos -> their 2x2 pixels."""
    return write(
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", "FP32", 3, 2, 2)],
        [tensor("y", "FP32", 3, 2, 2)],
        {"x": np.zeros((1, 3, 2, 2), np.float32)},
        preprocess={
            "kind": "image",
            "input": "photo",
            "output": "x",
            "size": 2,
            "crop": 1.0,
            "mean": 0.0,
            "scale": 1.0,
        },
    )


@pytest.mark.parametrize(
    ("raw", "kind", "says"),
    [
        (b"GIF89a", BadImage, "unsupported image format"),
        (b"\x89PNG\r\n\x1a\n", BadImage, "the image is corrupt"),
        (
            b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\3" + bytes(9),
            ImageTooLarge,
            "limit 16 megapixels",
        ),
    ],
)
async def test_a_photo_that_is_refused_says_which_way(
    looking: ModelVersion, raw: bytes, kind: type[BadRequest], says: str
) -> None:
    asked = Request([Tensor("photo", "BYTES", (1,), pack_bytes([raw]))], (), monotonic() + 5)
    async with Host(looking, "onnx", ReplicaEvents()) as host:
        with pytest.raises(kind, match=f'^input "photo": .*{says}') as refused:
            await host.infer(asked)
    assert type(refused.value) is kind


async def test_a_drain_waits_for_what_is_still_preprocessed(spelling: ModelVersion) -> None:
    async with Host(spelling, "onnx", ReplicaEvents()) as host:
        accepted = [asyncio.create_task(host.infer(texts(b"abc"))) for _ in range(8)]
        await asyncio.sleep(0)
        await host.drain()
        outcomes = await asyncio.gather(*accepted, return_exceptions=True)
    assert [o for o in outcomes if isinstance(o, BaseException)] == []


async def test_the_next_batch_is_preprocessed_while_the_model_holds_one(
    spelling: ModelVersion, gate: Gate
) -> None:
    async with Host(spelling, "onnx", ReplicaEvents(), gate) as host, asyncio.timeout(5):
        gate.backend.shut()
        first = asyncio.create_task(host.infer(texts(b"a")))
        assert await asyncio.to_thread(gate.backend.entered.wait, 5)
        second = asyncio.create_task(host.infer(texts(b"abc")))
        while not host.health().waiting_rows:  # rows join this line when they are tensors
            await asyncio.sleep(0)
        assert not first.done()
        gate.backend.open()
        assert [to_array((await asked).outputs[0]).tolist() for asked in (first, second)] == [
            [1],
            [6],
        ]
