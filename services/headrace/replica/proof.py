"""The proof that a loaded model is the one that was published: its golden answers."""

from collections.abc import Mapping

import numpy as np

from headrace.backends import Backend
from headrace.errors import StartFailed
from headrace.replica.assembly import Part, rows_of
from headrace.tensor import Array
from headrace_models.golden import difference, read_golden
from headrace_models.repository import ModelVersion
from headrace_models.spec import ModelSpec

__all__ = ["warm_up"]


def warm_up(backend: Backend, version: ModelVersion) -> Part:
    """Run the golden inputs, alone and as a full batch, and give them. Raises StartFailed on a wrong answer."""
    inputs, expected = read_golden(version)
    _compare(backend.run(inputs), expected, version.spec)
    batching = version.spec.batching
    if batching.fixed_rows is None:
        copies = -(-batching.max_rows // rows_of(inputs))
        backend.run({name: np.concatenate([a] * copies)[: batching.max_rows] for name, a in inputs.items()})
    return inputs


def _compare(outputs: Mapping[str, Array], expected: Mapping[str, Array], spec: ModelSpec) -> None:
    for name, array in expected.items():
        if worst := difference(outputs[name], array, spec.golden_tolerance):
            raise StartFailed(
                f'{spec.name} {spec.version}: golden output "{name}": expected within {spec.golden_tolerance}, '
                f"found a difference of {worst:.3g}"
            )
