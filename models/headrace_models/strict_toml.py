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
    message = error["msg"].removeprefix("Value error, ")
    message = re.sub("^Input should be ", "expected ", message)
    found = error["input"]
    return f"{message}, found {found!r}" if isinstance(found, str | int | float) else message


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
