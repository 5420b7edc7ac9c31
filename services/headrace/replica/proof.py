"""The proof that a loaded model is the one that was published: its golden answers."""

from collections.abc import Mapping
from time import monotonic

import numpy as np

from headrace.backends import Backend
from headrace.errors import StartFailed
from headrace.replica.assembly import Part, length_of, rows_of, split_rows
from headrace.tensor import Array
from headrace_models.golden import difference, read_golden
from headrace_models.repository import ModelVersion
from headrace_models.spec import ModelSpec

__all__ = ["warm_up"]


def warm_up(backend: Backend, version: ModelVersion) -> tuple[Part, list[tuple[int, float]]]:
    """Run the golden inputs, then one row and a full batch, twice. Raises StartFailed on a wrong answer.

    Gives the golden inputs, and the cells and seconds of the later runs: a first idea of what a batch costs.
    """
    inputs, expected = read_golden(version)
    _compare(backend.run(inputs), expected, version.spec)
    seen = []
    for batch in _batches(inputs, version.spec):
        backend.run(batch)
        started_s = monotonic()
        backend.run(batch)
        seen.append((rows_of(batch) * length_of(batch, version.spec), monotonic() - started_s))
    return inputs, seen


def _batches(inputs: Part, spec: ModelSpec) -> list[Part]:
    fixed, most = spec.batching.fixed_rows, spec.batching.max_rows
    one = split_rows(inputs, fixed or 1)[0]
    if fixed is not None or most == 1:
        return [one]
    copies = -(-most // rows_of(inputs))
    return [one, {name: np.concatenate([a] * copies)[:most] for name, a in inputs.items()}]


def _compare(outputs: Mapping[str, Array], expected: Mapping[str, Array], spec: ModelSpec) -> None:
    for name, array in expected.items():
        if worst := difference(outputs[name], array, spec.golden_tolerance):
            raise StartFailed(
                f'{spec.name} {spec.version}: golden output "{name}": expected within {spec.golden_tolerance}, '
                f"found a difference of {worst:.3g}"
            )
