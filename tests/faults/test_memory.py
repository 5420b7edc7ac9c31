"""A replica whose memory is limited while it serves: too large requests get an error, all others an
answer.
"""

import resource
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import orjson
import pytest
from loadtests.support.ports import HOST
from loadtests.support.process_platform import ProcessPlatform, Replica, process_platform
from loadtests.support.raw_http import call
from onnx import TensorProto, helper, numpy_helper

from headrace_models.publishing import ONNX_FILE, Draft, write_version

SPARE_BYTES = 160 << 20
WIDTH = 256
# A row of this many numbers takes 20 MiB, twice; of the others all together less than a MiB.
LONG, SHORT = 20_000, 4


def make_hungry(repository: Path) -> Path:
    """`y` FP32 [n] is the mean of the sines of `x` FP32 [n, t], with a tensor of 1 KiB for each
    number.
    """
    graph = helper.make_graph(
        [
            helper.make_node("Unsqueeze", ["x", "two"], ["column"]),
            helper.make_node("MatMul", ["column", "ones"], ["wide"]),
            helper.make_node("Sin", ["wide"], ["sines"]),
            helper.make_node("ReduceMean", ["sines"], ["y"], axes=[1, 2], keepdims=0),
        ],
        "hungry",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "t"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [
            numpy_helper.from_array(np.array([2], np.int64), "two"),
            numpy_helper.from_array(np.ones((1, WIDTH), np.float32), "ones"),
        ],
    )
    document: dict[str, object] = {
        "name": "hungry",
        "version": "1",
        "weights": {"onnx": ONNX_FILE},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": []}],
        "batching": {"max_rows": 8},
    }

    def draft(making: Path) -> Draft:
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, str(making / ONNX_FILE))
        return Draft(document, {"x": np.full((2, SHORT), 0.5, np.float32)})

    return write_version(repository, "hungry", "1", draft)


@pytest.fixture
def hungry(tmp_path: Path) -> Iterator[ProcessPlatform]:
    """A replica that may grow by `SPARE_BYTES` from now on."""
    with process_platform([Replica(make_hungry(tmp_path))]) as at:
        (replica,) = at.replicas
        status = Path(f"/proc/{replica}/status").read_text(encoding="ascii").splitlines()
        held = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmSize"))
        resource.prlimit(replica, resource.RLIMIT_AS, (held + SPARE_BYTES, resource.RLIM_INFINITY))
        yield at


def ask(at: ProcessPlatform, rows: int, length: int) -> str:
    """An error's code; "right" or "wrong"."""
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": [rows, length],
        "data": [0.5] * (rows * length),
    }
    body = orjson.dumps({"inputs": [tensor]})
    head = (
        "POST /v2/models/hungry/infer HTTP/1.1\r\n"
        f"Host: {HOST}:{at.port}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    answer = call(at.port, head.encode() + body)
    if answer.status != 200:
        return answer.code if answer.body else "none"
    found = orjson.loads(answer.body)["outputs"][0]["data"]
    return "right" if len(found) == rows and np.allclose(found, np.sin(0.5), rtol=1e-3) else "wrong"


def ask_at_once(at: ProcessPlatform, asked: Sequence[tuple[int, int]]) -> list[str]:
    with ThreadPoolExecutor(len(asked)) as callers:
        return list(callers.map(lambda one: ask(at, *one), asked))


def test_a_batch_without_room_is_answered_in_parts(hungry: ProcessPlatform) -> None:
    assert ask(hungry, 8, LONG) == "right", "320 MiB at once, 40 a row"


def test_a_row_without_room_is_told_so_and_harms_nobody(hungry: ProcessPlatform) -> None:
    found = ask_at_once(hungry, [(1, SHORT)] * 12 + [(1, 10 * LONG)] + [(1, SHORT)] * 12)
    assert found.pop(12) == "out_of_memory"
    assert Counter(found) == {"right": 24}
    assert ask(hungry, 1, LONG) == ask(hungry, 1, SHORT) == "right", (
        "what has room has it afterwards, too"
    )
