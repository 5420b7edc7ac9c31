"""Small JSON bodies, read by their pydantic models; a refusal names the field, never the value."""

import re
from typing import TypeVar

import orjson
import simdjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from headrace.errors import BadJson, BadRequest

__all__ = ["StrictBody", "printable", "read_body"]

T = TypeVar("T", bound=BaseModel)

# The name of a field in an object; names of kinds are written otherwise.
_INNER = re.compile(r"[a-z][a-z0-9_]*")


class StrictBody(BaseModel):
    """A body without other fields, each of exactly its own type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def read_body(kind: type[T], body: bytes) -> T:
    """Read a body as `kind`. Raises BadJson, or BadRequest naming the first wrong field.

    A member that is null counts as missing: many clients write unset ones so.
    """
    _check_keys(body)
    if b"null" in body:
        body = _without_nulls(body)
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        found = max(
            error.errors(include_url=False, include_input=False, include_context=False),
            key=_how_far,
        )
    if found["type"] == "json_invalid":
        raise BadJson("body: expected a JSON object, found something else")
    raise BadRequest(f"{_where(found['loc'])}: {found['msg'][:1].lower()}{found['msg'][1:]}")


def _how_far(error: ErrorDetails) -> tuple[list[int], bool]:
    """Sort key of errors: the type that read most of a value's arrays explains it best."""
    return [part for part in error["loc"] if isinstance(part, int)], not error["type"].endswith(
        "_type"
    )


def _where(loc: tuple[int | str, ...]) -> str:
    """A field as callers write it, `input[1].b64`, without names of types that pydantic adds."""
    if not loc:
        return "body"
    field, *others = loc
    inner = (
        f"[{part}]" if isinstance(part, int) else f".{part}" if _INNER.fullmatch(part) else ""
        for part in others
    )
    return printable("".join([str(field), *inner]))


def _check_keys(body: bytes) -> None:
    """Raise BadJson for a repeated key, as pydantic takes the last; it refuses non-JSON itself."""
    try:
        document = simdjson.Parser().parse(body)
    except (ValueError, RuntimeError):
        return
    if isinstance(document, simdjson.Object) and len(set(document)) != len(document):
        raise BadJson("body: duplicate key in an object")


def _without_nulls(body: bytes) -> bytes:
    """A body without its null members, and those of its members; any other body as it is."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    if not isinstance(document, dict):
        return body
    try:
        return orjson.dumps(
            {name: _given(value) for name, value in document.items() if value is not None}
        )
    except orjson.JSONEncodeError:
        # orjson reads what is nested deeper than it writes, and than pydantic takes.
        return body


def _given(value: object) -> object:
    return (
        {name: item for name, item in value.items() if item is not None}
        if isinstance(value, dict)
        else value
    )


def printable(name: str) -> str:
    """A caller's text, fit for a message: quoted, cut, and of printable ASCII."""
    return '"' + "".join(c if c.isascii() and c.isprintable() else "?" for c in name[:64]) + '"'
