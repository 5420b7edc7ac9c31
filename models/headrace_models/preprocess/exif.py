"""EXIF's orientation of a photo, as its camera wrote it; nothing else of EXIF is read."""

import struct

__all__ = ["UPRIGHT", "orientation_of"]

UPRIGHT = 1

_PREFIX = b"Exif\0\0"
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_ORIENTATION = 0x0112
_SHORT = 3
_ENTRY_BYTES = 12


def orientation_of(exif: bytes | memoryview) -> int:
    """1 to 8, as EXIF numbers them; UPRIGHT if there is none: a photo never fails for its metadata.

    It is read here, entry by entry of the first directory: libraries read all values, even ones
    that overlap.
    """
    tiff = bytes(exif[:65_536]).removeprefix(_PREFIX)
    order = _ORDERS.get(tiff[:4])
    if order is None:
        return UPRIGHT
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(start + 2, start + 2 + count * _ENTRY_BYTES, _ENTRY_BYTES):
            tag, kind, values, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
            if tag == _ORIENTATION:
                return value if (kind, values) == (_SHORT, 1) and 1 <= value <= 8 else UPRIGHT
    except struct.error:  # it is shorter than it claims
        pass
    return UPRIGHT
