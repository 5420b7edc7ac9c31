"""Parts into a batch and back."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.replica.assembly import group_of, join, rows_of, split_rows, take_rows
from headrace_models.spec import InputSpec

IDS = InputSpec(name="ids", datatype="INT64", shape=(-1,), pad=0)
FRAME = InputSpec(name="frame", datatype="FP32", shape=(-1,))


def test_shorter_rows_are_padded_up_to_the_longest() -> None:
    parts = [{"ids": np.array([[1, 2, 3]])}, {"ids": np.array([[4], [5]])}]
    np.testing.assert_array_equal(join(parts, [IDS])["ids"], [[1, 2, 3], [4, 0, 0], [5, 0, 0]])


def test_only_what_can_be_padded_shares_a_batch_whatever_its_shape() -> None:
    short, long = {"ids": np.ones((1, 2)), "frame": np.ones((1, 2))}, {"ids": np.ones((1, 9)), "frame": np.ones((1, 9))}
    assert group_of(short, [IDS]) == group_of(long, [IDS])
    assert group_of(short, [FRAME]) != group_of(long, [FRAME])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 5))
def test_what_is_split_joined_and_taken_apart_is_what_it_was(sizes: list[int], max_rows: int) -> None:
    start = np.cumsum([0, *sizes])
    parts = [{"frame": np.arange(a, b, dtype=np.float32)[:, None]} for a, b in itertools.pairwise(start)]
    pieces = [piece for part in parts for piece in split_rows(part, max_rows)]
    assert all(1 <= rows_of(piece) <= max_rows for piece in pieces)
    batch = join(pieces, [FRAME])
    taken = take_rows(batch, [rows_of(piece) for piece in pieces])
    np.testing.assert_array_equal(np.concatenate([t["frame"] for t in taken]).ravel(), np.arange(start[-1]))
