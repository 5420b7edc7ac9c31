"""The inputs and outputs of a trialled ONNX model, as its `model.toml` describes them."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from headrace_models.candidate import Candidate, Found
from headrace_models.trials import DATATYPES, Arrays, axes_of

if TYPE_CHECKING:
    from onnxruntime import NodeArg

__all__ = ["describe_inputs", "describe_outputs"]


def describe_inputs(candidate: Candidate, found: Found) -> list[dict[str, object]]:
    rows = candidate.rows_axes()
    return [
        _described(
            value,
            [_size(axis, found) for axis in axes_of(value)],
            has_rows=(axis := rows[value.name]) is not None and axis not in found.fixed,
        )
        for value in candidate.inputs
    ]


def describe_outputs(candidate: Candidate, found: Found) -> list[dict[str, object]]:
    """The outputs as the file declares them; an axis that came out otherwise has any length."""
    came = _answers_of_rows(candidate, found)
    golden = candidate.run(candidate.golden_inputs(found))
    described = []
    for value in candidate.outputs:
        arrays = [golden[value.name], *(answer[value.name] for answer in came.values())]
        has_rows = len(came) > 1 and all(
            np.shape(answer[value.name])[:1] == (rows,) for rows, answer in came.items()
        )
        described.append(_described(value, _output_axes(value, found, arrays), has_rows=has_rows))
    return described


def _answers_of_rows(candidate: Candidate, found: Found) -> dict[int, Arrays]:
    """The answers to 1, 2 and 3 rows, as far as the model has rows and answers so many."""
    axes = candidate.rows_axes().values()
    if all(axis is None or axis in found.fixed for axis in axes):
        return {}
    answers = {}
    for rows in (1, 2, 3):
        with suppress(Exception):  # it may not answer this many rows
            answers[rows] = candidate.run(candidate.with_rows(found, rows, seed=rows))
    return answers


def _output_axes(value: "NodeArg", found: Found, came: list[npt.NDArray[Any]]) -> list[int]:
    axes = axes_of(value)
    rank = came[0].ndim
    sizes = [_size(axis, found) for axis in axes] if len(axes) == rank else [-1] * rank
    return [
        n if all(a.ndim == rank and a.shape[i] == n for a in came) else -1
        for i, n in enumerate(sizes)
    ]


def _size(axis: int | str, found: Found) -> int:
    if isinstance(axis, int):
        return axis
    return found.trial.sizes[axis] if axis in found.fixed else -1


def _described(value: "NodeArg", axes: list[int], *, has_rows: bool) -> dict[str, object]:
    tensor: dict[str, object] = {"name": value.name, "datatype": DATATYPES[value.type]}
    return tensor | ({"shape": axes[1:]} if has_rows else {"has_rows": False, "shape": axes})
