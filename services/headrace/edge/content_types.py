"""Checks whether a body is of a kind that is read, by its Content-Type alone."""

from functools import lru_cache

__all__ = ["refusal"]

# UTF-8 has no other name in the register, but this one is as common.
_CHARSETS = ("utf-8", "us-ascii")
_SPELLINGS = {"utf8": "utf-8"}


@lru_cache(maxsize=256)
def refusal(content_type: bytes, known: tuple[str, ...]) -> str | None:
    """The reason why a Content-Type is not one of `known`; None if it is. `known` has "" if it may
    be missing.
    """
    kind, _, parameters = content_type.decode("latin-1").lower().partition(";")
    if kind.strip() not in known:
        return f"Content-Type: expected one of {', '.join(filter(None, known))}"
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        charset = value.strip('"')
        if name == "charset" and _SPELLINGS.get(charset, charset) not in _CHARSETS:
            return f"Content-Type: expected a charset of {' or '.join(_CHARSETS)}"
    return None
