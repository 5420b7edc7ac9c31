"""A sequence and its state: where it starts from, what a step leaves, and whether it fits a model."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from headrace.inference.tensor import Array
from headrace_models.spec import DTYPES, ModelSpec

__all__ = ["OpenSequence", "State", "Turn", "fits", "next_state", "zeros"]

# The values of the state inputs: name -> [1, *shape].
State = Mapping[str, Array]


@dataclass(slots=True)
class Turn:
    """A step's turn. `state` is what the model takes; what it holds when the turn ends well is the sequence's next."""

    state: State


@dataclass(slots=True, eq=False)
class OpenSequence:
    """`state` is None until a first step succeeded; `steps` are here, the one that runs among them.

    `is_moved`: another replica has it. `stays`: no other replica took it, and it ends with this one.
    """

    state: State | None = None
    steps: int = 0
    is_moved: bool = False
    stays: bool = False
    order: asyncio.Lock = field(
        default_factory=asyncio.Lock
    )  # its waiters are served in the order of coming


def zeros(spec: ModelSpec, rows: int = 1) -> State:
    """The state that everything starts from: `rows` of it, as far as it has rows."""
    inputs = {i.name: i for i in spec.inputs}
    states = [inputs[pair.input] for pair in spec.state]
    return {
        s.name: np.zeros((rows, *s.shape) if s.has_rows else s.shape, DTYPES[s.datatype])
        for s in states
    }


def next_state(spec: ModelSpec, outputs: Mapping[str, Array]) -> State:
    """The state that a step's outputs leave: copies, since outputs are views that would keep their whole batch."""
    return {pair.input: outputs[pair.output].copy() for pair in spec.state}


def fits(state: State, like: State) -> bool:
    """It has each of these, of the same datatype and shape, and maybe more."""
    return all(
        name in state and (state[name].dtype, state[name].shape) == (array.dtype, array.shape)
        for name, array in like.items()
    )
