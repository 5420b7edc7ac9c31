"""Plain nested values -> TOML text: just what a `model.toml` is made of."""

import json
import re
from collections.abc import Mapping

__all__ = ["to_toml"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(document: Mapping[str, object]) -> str:
    """Strings, numbers, booleans, lists of them, tables, and lists of tables."""
    return "\n".join(_lines(document, ())).lstrip("\n") + "\n"


def _lines(table: Mapping[str, object], path: tuple[str, ...]) -> list[str]:
    # A table's own keys must come before the first header below it.
    lines = [
        f"{_key(key)} = {_value(value)}" for key, value in table.items() if not _is_nested(value)
    ]
    for key, value in table.items():
        here = (*path, _key(key))
        if isinstance(value, Mapping):
            lines += ["", f"[{'.'.join(here)}]", *_lines(value, here)]
        elif _is_nested(value) and isinstance(value, list):
            for item in value:
                lines += ["", f"[[{'.'.join(here)}]]", *_lines(item, here)]
    return lines


def _is_nested(value: object) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and any(isinstance(i, Mapping) for i in value)
    )


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _value(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A JSON string is a TOML basic string but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    raise TypeError(
        f"expected a string, number, boolean, list or table, found {type(value).__name__}"
    )
