"""A caller's bytes -> a text that is neither empty nor too long."""

import re

from headrace_models.errors import BadInput

__all__ = ["EMPTY", "check_length", "read_text"]

EMPTY = "the text is empty"

_MAX_UTF8_BYTES = 4
# Neither space nor control character.
_VISIBLE = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]")


def read_text(raw: bytes, max_chars: int) -> str:
    """The text.

    Raises BadInput if it is not UTF-8, is longer than `max_chars`, or has only spaces and control
    characters.
    """
    if len(raw) > max_chars * _MAX_UTF8_BYTES:
        raise BadInput(f"text too long (limit {max_chars} characters): found {len(raw)} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput("the text is not valid UTF-8") from None
    check_length(text, max_chars)
    if not _VISIBLE.search(text):
        raise BadInput(EMPTY)
    return text


def check_length(text: str, max_chars: int) -> None:
    if len(text) > max_chars:
        raise BadInput(f"text too long (limit {max_chars} characters): found {len(text)}")
