"""Lanes of a device: one batch at a time in each lane, with memory of its own."""

from queue import Empty

import numpy as np
import pytest
import torch

from headrace.backends.lanes import Lanes, lanes_of
from headrace.backends.staging import StagedLane


def test_a_gpu_takes_a_batch_beside_the_running_one_and_a_cpu_does_not() -> None:
    assert (lanes_of("cuda"), lanes_of("cpu")) == (2, 1)


def test_no_lane_is_lent_twice_at_a_time() -> None:
    lanes = Lanes(["a", "b"])
    with lanes.one() as first, lanes.one() as second:
        assert {first, second} == {"a", "b"}
        with pytest.raises(Empty), lanes.one():
            pass


def test_lanes_go_round_and_come_back_from_a_failed_batch() -> None:
    lanes = Lanes(["a", "b"])
    with pytest.raises(ZeroDivisionError), lanes.one():
        raise ZeroDivisionError
    lent = []
    for _ in range(4):
        with lanes.one() as lane:
            lent.append(lane)
    assert lent == ["b", "a", "b", "a"]


def double_and_sum(x: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return 2 * x, ids.sum(1)


@pytest.mark.parametrize("max_staged_bytes", [0, 16, 1 << 20])
def test_a_staged_lane_answers_as_the_module_does_whatever_the_shapes(
    max_staged_bytes: int,
) -> None:
    lane = StagedLane(double_and_sum, "cpu", max_staged_bytes)
    for rows, length in ((1, 3), (7, 5), (2, 2), (16, 9), (1, 1)):
        x = np.random.default_rng(rows).random((rows, 3, 2), np.float32)
        ids = np.arange(rows * length).reshape(rows, length)
        doubled, sums = lane.run([x, ids])
        np.testing.assert_array_equal(doubled, 2 * x)
        np.testing.assert_array_equal(sums, ids.sum(1))


def test_an_answer_is_not_touched_by_the_next_batch() -> None:
    lane = StagedLane(double_and_sum, "cpu")
    ids = np.ones((2, 2), np.int64)
    first = lane.run([np.ones((2, 2), np.float32), ids])
    lane.run([np.zeros((2, 2), np.float32), 5 * ids])
    assert first[0].tolist() == [[2, 2]] * 2
    assert first[1].tolist() == [2, 2]


def test_an_input_that_may_not_be_written_or_is_not_contiguous_is_taken() -> None:
    x = np.frombuffer(np.arange(6, dtype=np.float32).tobytes(), np.float32).reshape(2, 3).T
    (answer,) = StagedLane(lambda x: (x + 1,), "cpu").run([x])
    np.testing.assert_array_equal(answer, x + 1)


def test_a_lane_works_again_after_its_module_failed() -> None:
    def fails_on_three(x: torch.Tensor) -> tuple[torch.Tensor]:
        if len(x) == 3:
            raise RuntimeError("three")
        return (x,)

    lane = StagedLane(fails_on_three, "cpu")
    with pytest.raises(RuntimeError, match="three"):
        lane.run([np.ones((3, 1), np.float32)])
    assert lane.run([np.ones((2, 1), np.float32)])[0].tolist() == [[1], [1]]
