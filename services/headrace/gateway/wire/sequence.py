"""The sequence extension's parameters: the step of a sequence that an infer request is.

Source: Triton's protocol/extension_sequence.
"""

from collections.abc import Collection, Mapping, Sequence

from headrace.errors import BadRequest
from headrace.gateway.json.document import flag
from headrace.inference.request import SequenceStep
from headrace.inference.tensor import Tensor

__all__ = ["check_step", "step_of"]

_PARAMETERS = "parameters."
_MAX_ID_CHARS = 128


def step_of(parameters: Mapping[str, object], where: str = _PARAMETERS) -> SequenceStep | None:
    """Read the step of a request's parameters; None if they name no sequence, or it is 0 or "".

    `where` stands before the parameters' names in an error. Raises BadRequest.
    """
    sequence_id = _id_of(parameters.get("sequence_id", 0), where)
    starts = flag(parameters.get("sequence_start", False), where + "sequence_start")
    ends = flag(parameters.get("sequence_end", False), where + "sequence_end")
    if sequence_id:
        return SequenceStep(sequence_id, starts, ends)
    if starts or ends:
        raise BadRequest(
            f"{where}sequence_id: expected an id beside sequence_start and sequence_end, found none"
        )
    return None


def _id_of(value: object, where: str) -> str:
    if type(value) is int and 0 <= value < 1 << 63:
        return str(value) if value else ""
    if isinstance(value, str) and len(value) <= _MAX_ID_CHARS and value.isprintable():
        return f'"{value}"' if value else ""
    raise BadRequest(
        f"{where}sequence_id: expected an integer of 0 or more or up to {_MAX_ID_CHARS} printable "
        "characters"
    )


def check_step(inputs: Sequence[Tensor], states: Collection[str], *, of_one_row: bool) -> None:
    """Raise BadRequest unless `inputs` can be a step of a model that keeps the inputs `states`.

    `of_one_row`: a step is a row, which may share a batch, and not a request of a model that is
    served unbatched.
    """
    if not states:
        raise BadRequest(
            f"{_PARAMETERS}sequence_id: expected none, as the model keeps no state between requests"
        )
    for tensor in inputs:
        if tensor.name in states:
            raise BadRequest(
                f'inputs: expected no "{tensor.name}" in a sequence, as the replica keeps its value'
            )
    if of_one_row and inputs[0].rows != 1:
        raise BadRequest(
            "inputs[0].shape: axis 0: expected 1 row in a step of a sequence, "
            f"found {inputs[0].rows}"
        )
