"""A lossless WebP with as many sets of code tables as one may have (RFC 9649, section 5)."""

import struct

__all__ = ["code_tables"]

# A code of one symbol, which takes no bits itself; and one in which all bytes have eight bits:
# first how long the codes of the lengths are, of which 0 and 8 have one bit each.
_OF_ONE_SYMBOL = "1000"
_OF_BYTES = (
    "0"
    + "0001"
    + "".join("100" if index in (2, 11) else "000" for index in range(12))
    + "0"
    + "1" * 256
)
_BYTES = [f"{byte:08b}" for byte in range(256)]


def code_tables(count: int, width: int = 1040, height: int = 1040) -> bytes:
    """Each square of 4 x 4 pixels has one of `count` sets of five codes, of one symbol each."""
    squares = -(-width // 4) * -(-height // 4)
    bits = [
        f"{(height - 1) << 14 | (width - 1):028b}"[::-1],
        "0000",  # opaque, of the only version
        "001000",  # no transform, no colour cache, more than one set of codes, for squares of 4 x 4
        "0",  # the image that says which square has which: no colour cache
        _OF_BYTES + "0" * 24,  # of greens, behind which are lengths, which none has
        _OF_BYTES,
        _OF_ONE_SYMBOL * 3,
        *(_BYTES[n % count & 0xFF] + _BYTES[n % count >> 8] for n in range(squares)),
        _OF_ONE_SYMBOL * 5 * count,
    ]
    data = b"\x2f" + _packed("".join(bits))
    body = b"WEBPVP8L" + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _packed(bits: str) -> bytes:
    """The first bit is the lowest of the first byte."""
    return int(bits[::-1], 2).to_bytes(-(-len(bits) // 8), "little")
