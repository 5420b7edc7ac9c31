"""The best classes of outputs, and softmax."""

import numpy as np
import pytest

from headrace_models.postprocess.classes import best_classes, softmax


def test_the_best_come_first_and_equal_ones_in_the_order_of_their_indices() -> None:
    values = np.array([[1, 3, 3, 2], [4, 4, 0, 5]], np.float32)
    assert best_classes(values, 3).tolist() == [[1, 2, 3], [3, 0, 1]]


@pytest.mark.parametrize("count", [4, 5, 1000])
def test_there_are_no_more_than_the_classes(count: int) -> None:
    assert best_classes(np.zeros((2, 4), np.float32), count).shape == (2, 4)


def test_nan_is_the_last_even_behind_minus_infinity() -> None:
    values = np.array([[np.nan, 1, np.inf, -np.inf]], np.float32)
    assert best_classes(values, 4).tolist() == [[2, 1, 3, 0]]


def test_unsigned_and_the_smallest_integers_are_sorted_by_value() -> None:
    for datatype in (np.uint8, np.int8, np.int64):
        values = np.array([[np.iinfo(datatype).min, 3, 1]], datatype)
        assert best_classes(values, 3).tolist()[0][0] == 1


def test_shares_of_a_row_add_up_to_one_whatever_is_added_to_its_values() -> None:
    values = np.array([[1, 2, 3], [0, 0, 0]], np.float32)
    assert softmax(values).sum(axis=1).tolist() == pytest.approx([1, 1])
    assert softmax(values + np.float32(1000)) == pytest.approx(softmax(values))


def test_a_row_with_infinity_is_nan_and_no_other_is() -> None:
    shares = softmax(np.array([[np.inf, 1], [1, 1]], np.float32))
    assert np.isnan(shares[0]).any()
    assert shares[1].tolist() == [0.5, 0.5]
