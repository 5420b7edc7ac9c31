"""Is a body of a kind that is read? By its Content-Type alone."""

from collections.abc import Sequence

__all__ = ["refusal"]

# UTF-8 has no other name in the register, but this one is as common.
_CHARSETS = ("utf-8", "us-ascii")
_SPELLINGS = {"utf8": "utf-8"}


def refusal(content_type: bytes, known: Sequence[str]) -> str | None:
    """Why a Content-Type is none of `known`, which has "" first if it may be missing; None if it is one."""
    kind, _, parameters = content_type.decode("latin-1").lower().partition(";")
    if kind.strip() not in known:
        return f"Content-Type: expected one of {', '.join(filter(None, known))}"
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        charset = value.strip('"')
        if name == "charset" and _SPELLINGS.get(charset, charset) not in _CHARSETS:
            return f"Content-Type: expected a charset of {' or '.join(_CHARSETS)}"
    return None
