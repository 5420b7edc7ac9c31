"""Every runtime's error for exhausted memory becomes one of ours, which holds no tensors."""

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper

from headrace.backends.memory import within_memory
from headrace.backends.onnx_bound import device_runner
from headrace.errors import InferenceFailed, OutOfMemory
from headrace_models.onnx_run import Run, runner

# Not to be had by anybody: 4 PB.
TOO_MANY = 10**15


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 10.01 GiB (GPU 0; 14.75 GiB total capacity)"
        ),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        Exception(
            "BFCArena::AllocateRawInternal Available memory of 1 is smaller than requested "
            "bytes of 2"
        ),
        Exception(
            "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0 ; "
            "expr=cudaMalloc"
        ),
        Exception("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Status Message: std::bad_alloc"),
        MemoryError(),
    ],
)
def test_what_runtimes_say_of_memory_is_one_error(error: Exception) -> None:
    def run() -> NoReturn:
        raise error

    with pytest.raises(OutOfMemory) as caught:
        within_memory(run)
    assert isinstance(caught.value, InferenceFailed)
    assert "GiB" not in str(caught.value)


def test_the_log_has_a_sentence_of_it(caplog: pytest.LogCaptureFixture) -> None:
    def run() -> NoReturn:
        raise RuntimeError(
            "out of memory: /srv/models/m/1/model.onnx\n" + "at some place of some file\n" * 100
        )

    with pytest.raises(OutOfMemory):
        within_memory(run)
    assert [record.message for record in caplog.records] == [
        "out of memory: out of memory: model.onnx"
    ]


def test_another_failure_stays_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        within_memory(lambda: 1 / 0)


def test_torch_itself_is_understood() -> None:
    with pytest.raises(OutOfMemory):
        within_memory(torch.empty, TOO_MANY)


def on_the_cpu(session: ort.InferenceSession, outputs: Sequence[str]) -> Run:
    return device_runner(session, outputs, "cpu")


@pytest.mark.parametrize("make", [runner, on_the_cpu])
def test_onnx_runtime_itself_is_understood(
    make: Callable[[ort.InferenceSession, Sequence[str]], Run],
) -> None:
    run = make(expanding(), ["y"])
    with pytest.raises(OutOfMemory):
        within_memory(run, {"x": np.ones(1, np.float32), "shape": np.array([TOO_MANY])})


def expanding() -> ort.InferenceSession:
    """x [1] -> y, twice x as often as `shape` says."""
    graph = helper.make_graph(
        [
            helper.make_node("Expand", ["x", "shape"], ["many"]),
            helper.make_node("Add", ["many", "many"], ["y"]),
        ],
        "expanding",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("shape", TensorProto.INT64, [1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def test_who_tries_a_smaller_batch_in_the_except_clause_has_the_failed_ones_memory_back() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def run() -> None:
        activations = torch.ones(3)
        held.append(weakref.ref(activations))
        torch.empty(TOO_MANY)

    try:
        within_memory(run)
    except OutOfMemory:
        assert held[0]() is None
    else:
        pytest.fail("there was memory enough")


def test_a_models_own_folder_is_not_told(tmp_path: Path) -> None:
    def run() -> NoReturn:
        raise RuntimeError(f"out of memory while reading {tmp_path}")

    with pytest.raises(OutOfMemory) as caught:
        within_memory(run)
    assert str(tmp_path) not in str(caught.value)
