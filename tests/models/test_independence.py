"""The runs that the comparison of rows takes, on a clock that the model moves."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from headrace_models import independence
from headrace_models.independence import dependence

ROWS = {"x": np.random.default_rng(0).normal(size=(8, 3))}


class Model:
    """Takes `row_s` for a row, and its first run `first_s` more."""

    def __init__(self, row_s: float, first_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[int] = []
        self.now_s = 0.0
        self._row_s, self._first_s = row_s, first_s
        monkeypatch.setattr(independence, "monotonic", lambda: self.now_s)

    def __call__(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, npt.NDArray[Any]]:
        self.now_s += self._row_s * len(inputs["x"]) + self._first_s * (not self.rows)
        self.rows.append(len(inputs["x"]))
        return {"y": 2 * inputs["x"]}


def test_a_slow_model_is_tried_with_two_and_three_rows_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Model(2.0, 0.0, monkeypatch)
    assert dependence(model, ROWS, 1e-5, (2, 3, 8, 32)) is None
    assert set(model.rows) == {1, 2, 3}
    assert model.now_s < 30


def test_a_model_whose_first_run_takes_long_is_not_taken_for_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Model(0.02, 5.0, monkeypatch)
    assert dependence(model, ROWS, 1e-5, (2, 3, 8, 32)) is None
    assert max(model.rows) == 32


@pytest.mark.parametrize("most", [2, 3, 4, 8])
def test_no_more_rows_run_together_than_the_largest_size(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    model = Model(0.0, 0.0, monkeypatch)
    assert dependence(model, ROWS, 1e-5, (2, most)) is None
    assert max(model.rows) == most
