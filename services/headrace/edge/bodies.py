"""Small JSON bodies, read strictly by their pydantic models and refused with the field, never with the value."""

from typing import TypeVar

import simdjson
from pydantic import BaseModel, ConfigDict, ValidationError

from headrace.errors import BadJson, BadRequest

__all__ = ["StrictBody", "printable", "read_body"]

T = TypeVar("T", bound=BaseModel)


class StrictBody(BaseModel):
    """A body that has no other fields, and each of its own type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def read_body(kind: type[T], body: bytes) -> T:
    """A body as `kind`. Raises BadJson, or BadRequest with the first field that is wrong and what was expected."""
    _check_keys(body)
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if found["type"] == "json_invalid":
        raise BadJson("body: expected a JSON object, found something else")
    place = printable(".".join(map(str, found["loc"]))) if found["loc"] else "body"
    raise BadRequest(f"{place}: {found['msg'][:1].lower()}{found['msg'][1:]}")


def _check_keys(body: bytes) -> None:
    """Raise BadJson if a key is there twice: pydantic would take the last one. What is no JSON it refuses itself."""
    try:
        document = simdjson.Parser().parse(body)
    except (ValueError, RuntimeError):
        return
    if isinstance(document, simdjson.Object) and len(set(document)) != len(document):
        raise BadJson("body: a key is there twice in one object")


def printable(name: str) -> str:
    """A name of the caller's, fit for a message: quoted, cut, and only of printable ASCII."""
    return '"' + "".join(c if c.isascii() and c.isprintable() else "?" for c in name[:64]) + '"'
