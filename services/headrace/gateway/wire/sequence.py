"""The sequence extension's parameters: which sequence an infer request is a step of.

Source: Triton's protocol/extension_sequence.
"""

from collections.abc import Collection, Mapping, Sequence

from headrace.errors import BadRequest
from headrace.gateway.json.document import flag
from headrace.inference.request import SequenceStep
from headrace.inference.tensor import Tensor

__all__ = ["check_step", "step_of"]

PLACE = "parameters."
_ID = PLACE + "sequence_id"
_FLAGS = ("sequence_start", "sequence_end")
_MAX_ID_CHARS = 128


def step_of(parameters: Mapping[str, object], place: str = PLACE) -> SequenceStep | None:
    """The step that a request's parameters make it; None without an id, which 0 and "" are too. Raises BadRequest.

    `place` is what stands before their names in an error.
    """
    sequence_id = _id_of(parameters.get("sequence_id", 0), place)
    starts, ends = (flag(parameters.get(name, False), place + name) for name in _FLAGS)
    if sequence_id:
        return SequenceStep(sequence_id, starts, ends)
    if starts or ends:
        raise BadRequest(
            f"{place}sequence_id: expected an id beside sequence_start and sequence_end, found none"
        )
    return None


def _id_of(value: object, place: str) -> str:
    if type(value) is int and 0 <= value < 1 << 63:
        return str(value) if value else ""
    if isinstance(value, str) and len(value) <= _MAX_ID_CHARS and value.isprintable():
        return f'"{value}"' if value else ""
    raise BadRequest(
        f"{place}sequence_id: expected an integer of 0 or more or up to {_MAX_ID_CHARS} printable characters"
    )


def check_step(inputs: Sequence[Tensor], states: Collection[str], *, of_one_row: bool) -> None:
    """Raise BadRequest unless `inputs` can be a step of a model whose inputs called `states` the replica keeps.

    `of_one_row`: the step is a row that may share a batch, not a whole request of a model that is served unbatched.
    """
    if not states:
        raise BadRequest(f"{_ID}: expected none, as the model keeps no state between requests")
    for tensor in inputs:
        if tensor.name in states:
            raise BadRequest(
                f'inputs: expected no "{tensor.name}" in a sequence, as its value is kept here'
            )
    if of_one_row and inputs[0].rows != 1:
        raise BadRequest(
            f"inputs[0].shape: axis 0: expected 1 row in a step of a sequence, found {inputs[0].rows}"
        )
