"""Strict base64: the standard alphabet with all of its padding, and no spaces."""

import binascii

from headrace.errors import BadRequest

__all__ = ["from_base64"]


def from_base64(text: str, where: str) -> bytes:
    """The bytes of `{"b64": text}`. Raises BadRequest naming `where`, for data URLs too."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        raise BadRequest(
            f"{where}: bad base64: expected the standard alphabet with padding, and nothing else"
        ) from None
