"""The state of a sequence: what it starts from, what a step leaves, whether it fits a model."""

from collections.abc import Mapping

import numpy as np

from headrace.inference.tensor import Array
from headrace_models.spec import DTYPES, ModelSpec

__all__ = ["State", "fits", "next_state", "zeros"]

# The values of the state inputs: name -> [1, *shape].
State = Mapping[str, Array]


def zeros(spec: ModelSpec, rows: int = 1) -> State:
    """The state that everything starts from, with `rows` where it has rows."""
    inputs = {i.name: i for i in spec.inputs}
    states = [inputs[pair.input] for pair in spec.state]
    return {
        s.name: np.zeros((rows, *s.shape) if s.has_rows else s.shape, DTYPES[s.datatype])
        for s in states
    }


def next_state(spec: ModelSpec, outputs: Mapping[str, Array]) -> State:
    """Copy the state from a step's outputs, which are views that would keep their whole batch."""
    return {pair.input: outputs[pair.output].copy() for pair in spec.state}


def fits(state: State, initial: State) -> bool:
    """Tell whether `state` has all arrays of `initial`, of the same types and shapes."""
    return all(
        name in state and (state[name].dtype, state[name].shape) == (array.dtype, array.shape)
        for name, array in initial.items()
    )
