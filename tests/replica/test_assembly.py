"""Parts into a batch and back."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.replica.assembly import group_of, join, length_of, rows_of, split_rows, take_rows
from headrace_models.spec import Batching, InputSpec, ModelSpec, OutputSpec

IDS = InputSpec(name="ids", datatype="INT64", shape=(-1,), pad=0)
FRAME = InputSpec(name="frame", datatype="FP32", shape=(-1,))


def spec_of(*inputs: InputSpec, batching: Batching | None = None) -> ModelSpec:
    """A model that gives each token's double and each row's sum."""
    return ModelSpec(
        name="m",
        version="1",
        weights={"onnx": "m.onnx"},
        golden="g.npz",
        inputs=inputs,
        outputs=(
            OutputSpec(name="doubled", datatype="INT64", shape=(-1,)),
            OutputSpec(name="sum", datatype="INT64", shape=(1,)),
        ),
        batching=batching or Batching(),
        files={"m.onnx": "0" * 64, "g.npz": "0" * 64},
    )


def test_shorter_rows_are_padded_up_to_the_longest() -> None:
    parts = [{"ids": np.array([[1, 2, 3]])}, {"ids": np.array([[4], [5]])}]
    np.testing.assert_array_equal(
        join(parts, spec_of(IDS))["ids"], [[1, 2, 3], [4, 0, 0], [5, 0, 0]]
    )


def test_only_what_can_be_padded_shares_a_batch_whatever_its_shape() -> None:
    short, long = (
        {"ids": np.ones((1, 2)), "frame": np.ones((1, 2))},
        {"ids": np.ones((1, 9)), "frame": np.ones((1, 9))},
    )
    assert group_of(short, [IDS]) == group_of(long, [IDS])
    assert group_of(short, [FRAME]) != group_of(long, [FRAME])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 5))
def test_what_is_split_joined_and_taken_apart_is_what_it_was(
    sizes: list[int], max_rows: int
) -> None:
    start = np.cumsum([0, *sizes])
    parts = [
        {"frame": np.arange(a, b, dtype=np.float32)[:, None]} for a, b in itertools.pairwise(start)
    ]
    pieces = [piece for part in parts for piece in split_rows(part, max_rows)]
    assert all(1 <= rows_of(piece) <= max_rows for piece in pieces)
    batch = join(pieces, spec_of(FRAME))
    taken = take_rows(batch, pieces, batch, spec_of(FRAME))
    np.testing.assert_array_equal(
        np.concatenate([t["frame"] for t in taken]).ravel(), np.arange(start[-1])
    )


def test_a_bucket_is_what_rows_are_padded_up_to() -> None:
    spec = spec_of(IDS, batching=Batching(buckets=(4, 8)))
    part = {"ids": np.array([[1, 2, 3, 4, 5]])}
    assert length_of(part, spec) == 8
    np.testing.assert_array_equal(join([part], spec)["ids"], [[1, 2, 3, 4, 5, 0, 0, 0]])
    longer = {"ids": np.ones((1, 9), int)}
    assert length_of(longer, spec) == 9
    assert join([longer, part], spec)["ids"].shape == (2, 9)


def test_length_is_that_of_the_longest_free_axis_and_nothing_where_only_rows_cost() -> None:
    part = {"ids": np.ones((2, 5), int), "frame": np.ones((2, 9))}
    assert length_of(part, spec_of(IDS, FRAME)) == 9
    assert length_of(part, spec_of(IDS)) == 5
    assert length_of(part, spec_of(IDS, batching=Batching(rows="none"))) == 10
    assert length_of(part, spec_of(IDS, batching=Batching(cost="rows"))) == 1


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=6))
def test_what_a_padded_axis_gave_comes_back_as_long_as_each_part_was(
    shapes: list[tuple[int, int]],
) -> None:
    parts = [
        {"ids": np.arange(1, rows * length + 1).reshape(rows, length)} for rows, length in shapes
    ]
    spec = spec_of(IDS)
    batch = join(parts, spec)
    outputs = {"doubled": 2 * batch["ids"], "sum": batch["ids"].sum(axis=1, keepdims=True)}
    for part, taken in zip(parts, take_rows(outputs, parts, batch, spec), strict=True):
        np.testing.assert_array_equal(taken["doubled"], 2 * part["ids"])
        np.testing.assert_array_equal(taken["sum"], part["ids"].sum(axis=1, keepdims=True))


def test_where_two_padded_axes_are_alike_nothing_of_an_answer_is_lost() -> None:
    other = InputSpec(name="other", datatype="INT64", shape=(-1,), pad=0)
    spec = spec_of(IDS, other)
    parts = [
        {"ids": np.ones((1, a), int), "other": np.ones((1, b), int)} for a, b in ((3, 7), (10, 10))
    ]
    batch = join(parts, spec)
    outputs = {"doubled": 2 * batch["other"], "sum": batch["ids"].sum(axis=1, keepdims=True)}
    assert take_rows(outputs, parts, batch, spec)[0]["doubled"].shape == (1, 7)
