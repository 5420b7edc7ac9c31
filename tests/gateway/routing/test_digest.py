"""Requests that are the same to a model have the same digest."""

from collections.abc import Callable

import numpy as np
import pytest
from tests.gateway.router_harness import spec

from headrace.gateway.routing.digest import digest_of
from headrace.inference.request import Request, SequenceStep
from headrace.inference.tensor import Tensor, from_array

X, Y = Tensor("x", "UINT8", (2,), b"ab"), Tensor("y", "UINT8", (1,), b"c")


def request() -> Request:
    return Request([X, Y], ["o", "p"], 1.0)


def changed(**members: object) -> Callable[[Request], Request]:
    def change(request: Request) -> Request:
        for name, value in members.items():
            setattr(request, name, value)
        return request

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed(inputs=[Y, X]),
        changed(inputs=[X]),
        changed(inputs=[Tensor("z", "UINT8", (2,), b"ab"), Y]),
        changed(inputs=[Tensor("x", "INT8", (2,), b"ab"), Y]),
        changed(inputs=[Tensor("x", "UINT8", (1, 2), b"ab"), Y]),
        changed(inputs=[Tensor("x", "UINT8", (2,), b"aB"), Y]),
        changed(inputs=[Tensor("x", "UINT8", (2,), b"a"), Tensor("y", "UINT8", (1,), b"bc")]),
        changed(outputs=["p", "o"]),
        changed(outputs=["op"]),
        changed(outputs=[]),
    ],
)
async def test_what_the_tensors_depend_on_makes_a_difference(
    change: Callable[[Request], Request],
) -> None:
    assert await digest_of(spec(), change(request())) != await digest_of(spec(), request())


async def test_what_leaves_the_tensors_unchanged_makes_no_difference() -> None:
    other = changed(
        deadline_s=2.0, priority=7, request_id="r", key_id="ann", sequence=SequenceStep("1")
    )(request())
    other.inputs = [Tensor("x", "UINT8", (2,), memoryview(bytearray(b"ab"))), Y]
    assert await digest_of(spec(), other) == await digest_of(spec(), request())


async def test_models_versions_and_their_files_differ() -> None:
    one = spec()
    changes: list[dict[str, object]] = [
        {"name": "other"},
        {"version": "2"},
        {"files": {"m.onnx": "1" * 64}},
    ]
    digests = {
        await digest_of(one.model_copy(update=change), request()) for change in [{}, *changes]
    }
    assert len(digests) == 4


async def test_large_requests_are_told_apart_by_their_last_byte() -> None:
    array = np.zeros((1, 1 << 18), np.float32)
    other = array.copy()
    other[0, -1] = 1
    asked = [Request([from_array("x", a)], [], 1.0) for a in (array, other, array)]
    one, two, three = [await digest_of(spec(), large) for large in asked]
    assert one == three != two
