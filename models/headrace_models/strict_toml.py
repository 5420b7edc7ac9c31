"""TOML read strictly: a refusal names file and line, what was expected, what was found."""

import re
import tomllib
import typing
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from headrace_models.errors import BadSpec

__all__ = ["Table", "complaint", "line_of", "read_toml"]

M = TypeVar("M", bound="Table")
Where = tuple[int | str, ...]

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_.-]+|"[^"]*"|'[^']*'))\s*=""")
_MAX_FOUND = 100
# By pydantic's type of error; its own sentences speak of Python's types.
_EXPECTED = {
    "missing": "expected a value, found none",
    "string_type": "expected a string",
    "string_too_short": "expected {min_length} or more characters",
    "string_too_long": "expected {max_length} or fewer characters",
    "string_pattern_mismatch": "expected a string that matches {pattern}",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "int_type": "expected an integer",
    "int_parsing": "expected an integer",
    "int_parsing_size": "expected a shorter integer",
    "int_from_float": "expected an integer",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected {ge} or more",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected {le} or less",
    "tuple_type": "expected a list",
    "too_short": "expected a list of {min_length} or more, found {actual_length}",
    "dict_type": "expected a table",
    "model_type": "expected a table",
    "path_type": "expected a path",
    "literal_error": "expected {expected}",
    "union_tag_invalid": "expected a {discriminator} of {expected_tags}, found '{tag:.100}'",
    "union_tag_not_found": "expected a table with the key {discriminator}",
}


class Table(BaseModel):
    """A table of a TOML file; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def description_of(cls, key: str) -> str:
        """The sentence that documents a key."""
        description = cls.model_fields[key].description
        assert description, f"{cls.__name__}.{key} has no description"
        return description


def read_toml(kind: type[M], path: Path) -> M:
    """Read `path` as a `kind`.

    Raises BadSpec with `file:line` if it cannot be read, parsed or checked.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSpec(
            f"{path}:1", f"cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise BadSpec(
            f"{path}:{line[1] if line else len(text.splitlines())}", f"not TOML: {error}"
        ) from None
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = first["loc"]
        raise BadSpec(f"{path}:{line_of(text, where)}", _reason(kind, first)) from None


def line_of(text: str, where: Where) -> int:
    """The line (from 1) of the key or table that shares the longest path with `where`."""
    table: Where = ()
    seen: dict[str, int] = {}
    best, best_depth = 1, 0
    for number, line in enumerate(text.splitlines(), start=1):
        path = table
        if header := _HEADER.match(line):
            table = tuple(part.strip("\"' ") for part in header[2].split("."))
            if header[1] == "[[":
                index = seen[header[2]] = seen.get(header[2], -1) + 1
                table = (*table, index)
            path = table
        elif key := _KEY.match(line):
            bare = key[1] if key[1][0] in "\"'" else None
            path = table + ((bare.strip("\"'"),) if bare else tuple(key[1].split(".")))
        depth = _shared(path, where)
        if depth > best_depth:
            best, best_depth = number, depth
    return best


def _shared(path: Where, where: Where) -> int:
    """The number of leading steps that two paths share."""
    depth = 0
    for mine, theirs in zip(path, where, strict=False):
        if mine != theirs:
            break
        depth += 1
    return depth


def _reason(kind: type[BaseModel], error: ErrorDetails) -> str:
    where = error["loc"]
    name = ".".join(str(step) for step in where)
    if error["type"] == "extra_forbidden":
        return f'unknown key "{name}"; known here: {", ".join(_known_keys(kind, where[:-1]))}'
    return f"{name}: {complaint(error)}" if name else complaint(error)


def complaint(error: ErrorDetails) -> str:
    """A sentence on a wrong value: what was expected, and what was found if that is short."""
    if template := _EXPECTED.get(error["type"]):
        # Bounds of floats are floats: 1.0 is written as 1.
        message = template.format_map(
            {
                name: int(value) if isinstance(value, float) and value.is_integer() else value
                for name, value in error.get("ctx", {}).items()
            }
        )
    else:
        message = error["msg"].removeprefix("Value error, ")
    found = error["input"]
    if not isinstance(found, str | int | float):
        return message
    shown = repr(found)
    if len(shown) > _MAX_FOUND:
        shown = f"{shown[:_MAX_FOUND]}..."
    return f"{message}, found {shown}"


def _known_keys(kind: object, where: Where) -> list[str]:
    """The field names of the model that `where` leads to, as far as its type can be followed."""
    for step in where:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and step in kind.model_fields:
            kind = kind.model_fields[str(step)].annotation
        models = [a for a in _arguments(kind) if isinstance(a, type) and issubclass(a, BaseModel)]
        kind = models[0] if len(models) == 1 else kind
    return (
        sorted(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []
    )


def _arguments(kind: object) -> list[object]:
    """A type and all types inside its generics: `tuple[A, ...] | None` -> that, A, None."""
    return [kind, *(inner for argument in typing.get_args(kind) for inner in _arguments(argument))]
