"""The results of a request's pieces as one answer."""

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.batching import Result
from headrace.errors import BadRequest
from headrace.inference.request import Times
from headrace.inference.tensor import Array, Tensor, from_array
from headrace.replica.runner import PartResult
from headrace_models.spec import OutputSpec

__all__ = ["pack", "times_of"]


def pack(
    results: Sequence[Result[PartResult]], names: Sequence[str], outputs: Mapping[str, OutputSpec]
) -> list[Tensor]:
    """The tensors of the outputs `names`, joined. Raises BadRequest if they cannot be."""
    return [
        from_array(name, _joined([r.value.outputs[name] for r in results], outputs[name]))
        for name in names
    ]


def _joined(arrays: list[Array], output: OutputSpec) -> Array:
    """One output of several runs: its rows one after the other, or without rows, one run each."""
    if len(arrays) == 1:
        return arrays[0]
    try:
        if output.has_rows or output.shape[:1] == (1,):
            return np.concatenate(arrays)
        return np.stack(arrays)
    except ValueError:
        shapes = sorted({array.shape for array in arrays})
        raise BadRequest(
            f'output "{output.name}": expected one shape for all inputs, found {shapes}; '
            "send one input at a time"
        ) from None


def times_of(results: Sequence[Result[PartResult]], preprocess_s: float) -> Times:
    """The times of a request: its pieces wait and run beside each other."""
    if len(results) == 1:
        only = results[0]
        return Times(
            queue_s=only.queue_s,
            preprocess_s=preprocess_s,
            compute_s=only.compute_s,
            batch_rows=only.batch_rows,
            padding=only.padding,
        )
    widest = max(results, key=lambda result: result.batch_rows)
    return Times(
        queue_s=min(result.queue_s for result in results),
        preprocess_s=preprocess_s,
        compute_s=max(result.compute_s for result in results),
        batch_rows=widest.batch_rows,
        padding=widest.padding,
    )
