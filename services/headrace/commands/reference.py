"""The reference page of `headrace.toml`, made of the settings' own documentation.

python -m headrace.commands.reference > docs/settings.md
"""

import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from headrace.config import Settings
from headrace_models.strict_toml import Table

__all__ = ["reference"]

_HEAD = """\
# Settings

Every key of `headrace.toml`. All are optional. `headrace serve` reads the file in its folder, or
the one that `--config` names, and refuses unknown keys with their line. Options of the command line
take precedence.

<!-- Made by `python -m headrace.commands.reference > docs/settings.md`; a test holds it so. -->
"""
_TYPES: Mapping[object, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    Path: "path",
}
_UNITS = {"_bytes": "bytes", "_ms": "ms", "_s": "s"}


def reference() -> str:
    """The page, in Markdown."""
    sections = [_HEAD]
    for title, table in _tables(Settings, ""):
        rows = [_row(key, table.model_fields[key]) for key in _in_order(table)]
        sections.append("\n".join([*_opening(title, table), *filter(None, rows), ""]))
    return "\n".join(sections)


def _tables(table: type[Table], title: str) -> Iterator[tuple[str, type[Table]]]:
    """Tables and their titles, those inside a table after it."""
    yield title, table
    for key, field in table.model_fields.items():
        if inner := _inner(field.annotation):
            is_by_name = get_origin(field.annotation) is dict
            yield from _tables(inner, f"[{key}.NAME]" if is_by_name else f"[{key}]")


def _inner(annotation: object) -> type[Table] | None:
    """The table that a field is, or has by name."""
    kind = get_args(annotation)[-1] if get_origin(annotation) is dict else annotation
    return kind if isinstance(kind, type) and issubclass(kind, Table) else None


def _in_order(table: type[Table]) -> list[str]:
    """The table's keys, its own before those that it has from a part."""
    own = [key for key in table.model_fields if key in table.__annotations__]
    return [*own, *(key for key in table.model_fields if key not in own)]


def _opening(title: str, table: type[Table]) -> list[str]:
    summary = (table.__doc__ or "").partition("\n")[0]
    heading = f"## `{title}`\n\n{summary}\n" if title else "## Top level\n"
    return [heading, "| key | type | unit | default | meaning |", "| --- | --- | --- | --- | --- |"]


def _row(key: str, field: FieldInfo) -> str:
    """A field's line; empty for a table."""
    if _inner(field.annotation):
        return ""
    unit = next((unit for suffix, unit in _UNITS.items() if key.endswith(suffix)), "")
    cells = (f"`{key}`", _type(field), unit, _default(field.default), field.description or "")
    return f"| {' | '.join(cells)} |"


def _type(field: FieldInfo) -> str:
    return ", ".join([_name(field.annotation), *_bounds(field)])


def _name(annotation: object) -> str:
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Annotated:
        return _name(arguments[0])
    if origin is Literal:
        return " or ".join(f'`"{value}"`' for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_name(a) for a in arguments if a is not type(None))
    if origin is tuple:
        return f"list of {_name(arguments[0])}s"
    if origin is dict:
        return f"table of {_name(arguments[1])}s"
    return _TYPES[annotation]


def _bounds(field: FieldInfo) -> Iterator[str]:
    limits: dict[str, object] = {}
    for constraint in field.metadata:
        for kind in ("ge", "gt", "le"):
            if (limit := getattr(constraint, kind, None)) is not None:
                limits[kind] = limit
    if "ge" in limits and "le" in limits:
        yield f"{limits['ge']} to {limits['le']}"
        return
    words = {"ge": "at least", "gt": "above", "le": "at most"}
    yield from (f"{words[kind]} {limit}" for kind, limit in limits.items())


def _default(value: object) -> str:
    """A default as TOML has it; empty for a key that is not set."""
    match value:
        case None:
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case str() | Path():
            return f'`"{value}"`'
        case ():
            return "`[]`"
    return f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
