"""Writes the answer to an infer request: JSON, binary tensors, or the best classes of an output."""

from collections.abc import Collection, Mapping, Sequence

import orjson

from headrace.errors import AnswerTooLarge, InferenceFailed
from headrace.gateway.json.writing import json_array, rows_in_pieces
from headrace.gateway.wire.classification import classes_of
from headrace.inference.request import Answer
from headrace.inference.tensor import Array, Buffer, Tensor, to_array

__all__ = ["MAX_JSON_ELEMENTS", "encode"]

_MAX_ANSWER_BYTES = 64 << 20
MAX_JSON_ELEMENTS = 2_000_000


def encode(
    answer: Answer,
    head: Mapping[str, object],
    binary: frozenset[str],
    classes: Mapping[str, int],
    labels: Mapping[str, Sequence[str]],
    without_rows: Collection[str] = (),
) -> tuple[bytes, int]:
    """The body, and the length of its JSON part: 0 if no binary part follows.

    `binary` names the outputs written as raw bytes; `classes` says how many best classes are wanted
    of an output: for each row, but for those `without_rows`. Raises AnswerTooLarge.
    """
    outputs: list[dict[str, object]] = []
    tail: list[Buffer] = []
    for tensor in answer.outputs:
        if count := classes.get(tensor.name):
            tensor = classes_of(
                tensor, count, labels.get(tensor.name, ()), has_rows=tensor.name not in without_rows
            )
        output: dict[str, object] = {
            "name": tensor.name,
            "shape": tensor.shape,
            "datatype": tensor.datatype,
        }
        if tensor.name in binary:
            output["parameters"] = {"binary_data_size": len(tensor.data)}
            tail.append(tensor.data)
        else:
            output["data"] = _json_data(tensor)
        outputs.append(output)
    if sum(map(len, tail)) > _MAX_ANSWER_BYTES:
        raise AnswerTooLarge(
            f"the answer is larger than {_MAX_ANSWER_BYTES} bytes; request fewer rows or outputs"
        )
    header = orjson.dumps({**head, "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not any(len(part) for part in tail):
        return header, 0
    return b"".join((header, *tail)), len(header)


def _json_data(tensor: Tensor) -> Array | orjson.Fragment:
    """All elements, flat. NaN and infinity, which JSON has no numbers for, become null."""
    array = to_array(tensor).reshape(-1)
    if array.size > MAX_JSON_ELEMENTS:
        raise AnswerTooLarge(
            f'output "{tensor.name}" has more than {MAX_JSON_ELEMENTS} elements: '
            "request it with binary_data"
        )
    if tensor.datatype == "BYTES":
        try:
            return rows_in_pieces((element.decode() for element in array), 1)
        except UnicodeDecodeError:
            raise InferenceFailed(
                f'output "{tensor.name}" is not text: request it with binary_data'
            ) from None
    return json_array(array)
