"""JSON bodies of texts, photos and token ids. pydantic reads them once they are in bounds."""

from collections.abc import Sequence
from typing import Annotated, TypeVar

import numpy as np
from pydantic import Field

from headrace.edge.bodies import StrictBody, read_body
from headrace.errors import BadJson, InferenceFailed
from headrace.gateway.json.document import LARGE_BYTES
from headrace.gateway.json.scan import scan
from headrace.inference.request import Answer
from headrace.inference.tensor import Array, Tensor, pack_bytes, to_array
from headrace_models.spec import RawSpec

__all__ = [
    "MAX_ELEMENTS",
    "MAX_ITEMS",
    "MAX_TEXTS",
    "MAX_TEXT_BYTES",
    "Text",
    "Texts",
    "raw_tensor",
    "read_json",
    "rows_of",
]

MAX_ITEMS = 1024
# The elements and texts of a large body: as many as the embeddings endpoint usually has of token
# ids, and to spare.
MAX_ELEMENTS = 300_000
MAX_TEXTS = 4 * MAX_ITEMS
# A text has at most a million characters, of at most six bytes each as JSON may write them; photos
# may be larger.
MAX_TEXT_BYTES = 6_000_000

B = TypeVar("B", bound=StrictBody)

Text = Annotated[str, Field(max_length=1_000_000)]
# The first wrong element is enough: to collect them all, for each kind of list, took seconds.
Texts = Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=MAX_ITEMS)]


def read_json(kind: type[B], body: bytes, max_text_bytes: int | None = MAX_TEXT_BYTES) -> B:
    """A body by its pydantic model. Raises BadJson, or BadRequest with the first field that is
    wrong.

    pydantic holds the interpreter, and copies what it refuses; so the limits are checked before it
    reads.
    """
    if len(body) > LARGE_BYTES:
        structure = scan(body)
        if len(structure.offsets) > MAX_ELEMENTS:
            raise BadJson(f"body: expected at most {MAX_ELEMENTS} elements")
        if len(structure.quotes) > 2 * MAX_TEXTS:
            raise BadJson(f"body: expected at most {MAX_TEXTS} texts")
        if max_text_bytes and np.diff(structure.quotes).max(initial=0) > max_text_bytes:
            raise BadJson(f"body: expected texts of at most {max_text_bytes} bytes")
    return read_body(kind, body)


def raw_tensor(raw: RawSpec, items: Sequence[bytes]) -> Tensor:
    """Photos or texts as the BYTES `[n]` input that the replica preprocesses."""
    return Tensor(raw.input, "BYTES", (len(items),), pack_bytes(items))


def rows_of(answer: Answer, items: int) -> Array:
    """An answer's first output as `[items, *]`, whatever axes it has. Raises InferenceFailed."""
    values = to_array(answer.outputs[0])
    if values.size % items:
        raise InferenceFailed(
            f'output "{answer.outputs[0].name}" does not have one row for each item of the request'
        )
    return values.reshape(items, values.size // items)
