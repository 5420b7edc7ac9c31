"""Models of every datatype: rows of several requests share a batch and return to their own."""

import asyncio
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from tests.backends.own_models import IN_ONNX, identity

from headrace.errors import BadRequest
from headrace.inference.request import Request
from headrace.inference.tensor import Tensor, from_array, pack_bytes
from headrace.replica.host import Host
from headrace.telemetry.events import ReplicaEvents
from headrace_models.spec import DTYPES


def rows(datatype: str, count: int) -> Tensor:
    """`count` rows of three, all of them `count`."""
    if datatype == "BYTES":
        return Tensor("x", "BYTES", (count, 3), pack_bytes([f"é{count}"] * 3 * count))
    return from_array("x", np.full((count, 3), count).astype(DTYPES[datatype]))


def ask(tensor: Tensor) -> Request:
    return Request([tensor], (), monotonic() + 10)


@pytest.mark.parametrize("datatype", IN_ONNX)
async def test_rows_of_every_datatype_come_back_to_their_own(tmp_path: Path, datatype: str) -> None:
    sent = [rows(datatype, count) for count in (1, 2, 3, 70)]
    async with Host(identity(tmp_path, datatype), "onnx", ReplicaEvents()) as host:
        answers = await asyncio.gather(*(host.infer(ask(tensor)) for tensor in sent))
    for tensor, answer in zip(sent, answers, strict=True):
        (back,) = answer.outputs
        assert (back.datatype, back.shape, bytes(back.data)) == (
            datatype,
            tensor.shape,
            bytes(tensor.data),
        )


async def test_a_strangers_broken_text_harms_no_batch_mate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Tensor("x", "BYTES", (1, 3), pack_bytes([b"a", b"\xff", b"b"]))
    async with Host(identity(tmp_path, "BYTES"), "onnx", ReplicaEvents()) as host:
        sent = [rows("BYTES", 1), broken, rows("BYTES", 2)]
        outcomes = await asyncio.gather(
            *(host.infer(ask(tensor)) for tensor in sent), return_exceptions=True
        )
    assert isinstance(outcomes[1], BadRequest)
    assert not any(isinstance(outcome, BaseException) for outcome in (outcomes[0], outcomes[2]))
    assert caplog.records == []
