"""A batch that fails: the parts at fault, the cost of finding them, and what is remembered."""

from collections.abc import Mapping, Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.replica.machine import Machine

from headrace.errors import InferenceFailed, OutOfMemory
from headrace.inference.tensor import Array
from headrace.replica.assembly import Part
from headrace.replica.runner import PartResult, Runner
from headrace_models.spec import InputSpec, ModelSpec, OutputSpec

SPEC = ModelSpec(
    name="m",
    version="1",
    weights={"onnx": "m.onnx"},
    golden="g.npz",
    inputs=(InputSpec(name="x", datatype="INT64", shape=(-1,), pad=0),),
    outputs=(OutputSpec(name="y", datatype="INT64", shape=(1,)),),
    files={"m.onnx": "0" * 64, "g.npz": "0" * 64},
)


class Fragile:
    """Sums rows; fails on a batch with poison, and has room for `room` cells."""

    device = "cpu"
    lanes = 1

    def __init__(self, poisons: frozenset[int] = frozenset(), room: int = 1 << 30) -> None:
        self.poisons = poisons
        self.room = room
        self.rows: list[int] = []

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        x = inputs["x"]
        self.rows.append(len(x))
        if x.size > self.room:
            raise OutOfMemory("no room")
        if self.poisons & set(x.ravel().tolist()):
            raise ValueError("poison")
        return {"y": x.sum(axis=1, keepdims=True)}


def part(*rows: int) -> Part:
    return {"x": np.array(rows)[:, None]}


def run(runner: Runner, parts: Sequence[Part]) -> list[PartResult | Exception]:
    """With all the time that it takes."""
    return runner.run(parts, Machine(0.0, 0.0).tries(len(parts)))


def answers(results: list[PartResult | Exception]) -> list[list[int] | type[Exception]]:
    return [
        type(r) if isinstance(r, Exception) else r.outputs["y"].ravel().tolist() for r in results
    ]


@given(st.integers(1, 120), st.data())
def test_one_poison_fails_alone_and_costs_less_than_two_more_batches(
    size: int, data: st.DataObject
) -> None:
    poison = data.draw(st.integers(0, size - 1))
    backend = Fragile(frozenset({poison}))
    results = run(Runner(backend, SPEC), [part(n) for n in range(size)])
    assert answers(results) == [InferenceFailed if n == poison else [n] for n in range(size)]
    assert sum(backend.rows) <= 3 * size


def test_one_poison_costs_about_two_more_batches_wherever_it_is() -> None:
    """Of a model that takes 20 ms a batch and 2 ms a row, a hundred rows."""
    times_s = []
    for poison in range(100):
        backend = Fragile(frozenset({poison}))
        run(Runner(backend, SPEC), [part(n) for n in range(100)])
        times_s.append(sum(0.02 + 0.002 * rows for rows in backend.rows))
    assert sum(times_s) / 100 < 3 * 0.22
    assert max(times_s) < 3.2 * 0.22


def test_a_batch_that_failed_only_once_is_answered() -> None:
    class Hiccup(Fragile):
        def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
            if not self.rows:
                self.rows.append(0)
                raise ValueError("once")
            return super().run(inputs)

    assert answers(run(Runner(Hiccup(), SPEC), [part(n) for n in range(5)])) == [
        [n] for n in range(5)
    ]


def test_several_poisons_fail_alone() -> None:
    poisons = frozenset({3, 50, 51, 99})
    results = run(Runner(Fragile(poisons), SPEC), [part(n) for n in range(100)])
    assert answers(results) == [InferenceFailed if n in poisons else [n] for n in range(100)]


def test_a_model_that_fails_on_everything_is_asked_little_more_than_once_for_each() -> None:
    backend = Fragile(frozenset(range(100)))
    assert (
        answers(run(Runner(backend, SPEC), [part(n) for n in range(100)]))
        == [InferenceFailed] * 100
    )
    assert len(backend.rows) <= 125


def test_a_batch_that_finds_no_room_runs_in_halves_and_the_safe_size_is_remembered() -> None:
    backend = Fragile(room=10)
    runner = Runner(backend, SPEC)
    assert answers(run(runner, [part(n) for n in range(32)])) == [[n] for n in range(32)]
    assert runner.safe_cells == 8


def test_the_rows_of_one_request_are_halved_as_well() -> None:
    results = run(Runner(Fragile(room=10), SPEC), [part(*range(30))])
    assert answers(results) == [list(range(30))]


def test_a_row_that_has_no_room_fails_alone() -> None:
    long: Part = {"x": np.ones((1, 50), int)}
    results = run(Runner(Fragile(room=10), SPEC), [part(1), long, part(2)])
    assert answers(results) == [[1], OutOfMemory, [2]]


def test_pythons_own_lack_of_memory_is_one_too() -> None:
    class Full(Fragile):
        def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
            if len(inputs["x"]) > 2:
                raise MemoryError
            return super().run(inputs)

    runner = Runner(Full(), SPEC)
    assert answers(run(runner, [part(n) for n in range(4)])) == [[0], [1], [2], [3]]
    assert runner.safe_cells == 2
