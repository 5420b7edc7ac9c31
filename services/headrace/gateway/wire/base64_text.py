"""Base64 as it must be: no spaces, no other alphabet, all of its padding."""

import binascii

from headrace.errors import BadRequest

__all__ = ["from_base64"]


def from_base64(text: str, place: str) -> bytes:
    """The bytes behind `{"b64": text}`. Raises BadRequest naming `place`; a data URL or a link is none."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        raise BadRequest(
            f"{place}: bad base64: expected the standard alphabet with padding, and nothing else"
        ) from None
