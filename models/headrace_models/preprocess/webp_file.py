"""A WebP's chunks, checked one by one before a decoder sees them (RFC 9649)."""

import struct
from collections.abc import Iterator

from headrace_models.errors import OversizedImage, UnreadableImage
from headrace_models.preprocess.exif import orientation_of
from headrace_models.preprocess.image_size import CORRUPT, check_size

__all__ = ["is_webp", "webp_pixels"]

_FORM = struct.Struct("<4sI4s")
_HEAD = struct.Struct("<4sI")
_ANIMATED, _HAS_ALPHA = 0x02, 0x10
_LOSSY_START, _LOSSLESS_START = b"\x9d\x01\x2a", b"\x2f"
_MAX_CHUNKS = 1024
# A decoder makes four bytes of each pixel, whatever the file holds. Lossless data, transparency
# included, may describe up to 65,536 sets of code tables of 5 KiB and more, which take as long to
# make as some megapixels.
_LOSSY_BYTES, _LOSSLESS_BYTES = 4, 8
# A photo of 12 megapixels has one to three MiB; each MiB takes a decoder up to a tenth of a second.
_MAX_CODED_BYTES = 4 << 20


def is_webp(raw: bytes) -> bool:
    return raw[:4] == b"RIFF" and raw[8:12] == b"WEBP"


def webp_pixels(raw: bytes, max_pixels: int) -> tuple[bytes, int]:
    """The image reduced to the chunks that make its pixels, and its orientation.

    Everything behind the image's end is left out. Raises OversizedImage from the header alone, and
    UnreadableImage for a WebP that is broken or animated.
    """
    found: dict[bytes, memoryview] = {}
    for kind, data in _chunks(raw):
        found.setdefault(kind, data)
    image = next((kind for kind in (b"VP8 ", b"VP8L") if kind in found), None)
    if b"ANIM" in found or b"ANMF" in found:
        raise UnreadableImage("animated images are not supported")
    if image is None:
        raise UnreadableImage(f"{CORRUPT}: it has no pixels")
    size = _size_of(image, found[image])
    kinds = [b"ALPH", image] if {b"VP8X", b"ALPH"} <= found.keys() else [image]
    check_size(*size, _LOSSY_BYTES if kinds == [b"VP8 "] else _LOSSLESS_BYTES, max_pixels)
    _check_coded(sum(len(found[kind]) for kind in kinds))
    extended = _extended(found[b"VP8X"], size) if b"VP8X" in found else b""
    body = b"".join((b"WEBP", extended, *(_chunk(kind, found[kind]) for kind in kinds)))
    return _HEAD.pack(b"RIFF", len(body)) + body, orientation_of(found.get(b"EXIF", b""))


def _check_coded(nbytes: int) -> None:
    if nbytes > _MAX_CODED_BYTES:
        limit = f"limit {_MAX_CODED_BYTES >> 20} MiB as WebP"
        raise OversizedImage(f"image too large ({limit}): found {nbytes} bytes without metadata")


def _chunks(raw: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """The kind and the content of each chunk up to the image's end."""
    _, length, _ = _FORM.unpack_from(raw)
    offset = _FORM.size
    end = 8 + length
    view = memoryview(raw)
    if end > len(raw):
        raise UnreadableImage(f"{CORRUPT}: it ends too early")
    for _ in range(_MAX_CHUNKS):
        if offset + _HEAD.size > end:
            return
        kind, size = _HEAD.unpack_from(raw, offset)
        offset += _HEAD.size
        if offset + size > end:
            raise UnreadableImage(f"{CORRUPT}: it ends too early")
        yield kind, view[offset : offset + size]
        offset += size + size % 2
    raise UnreadableImage(f"the image has too many chunks (limit {_MAX_CHUNKS})")


def _chunk(kind: bytes, data: bytes | memoryview) -> bytes:
    return b"".join((_HEAD.pack(kind, len(data)), data, bytes(len(data) % 2)))


def _extended(data: memoryview, size: tuple[int, int]) -> bytes:
    """The header of an extended file, reduced to the parts that are kept."""
    if len(data) < 10:
        raise UnreadableImage(f"{CORRUPT}: its header is too short")
    if data[0] & _ANIMATED:
        raise UnreadableImage("animated images are not supported")
    if (_from_24_bits(data[4:7]) + 1, _from_24_bits(data[7:10]) + 1) != size:
        raise UnreadableImage(f"{CORRUPT}: its header says another size than its pixels")
    return _chunk(b"VP8X", bytes([data[0] & _HAS_ALPHA]) + bytes(data[1:10]))


def _from_24_bits(data: memoryview) -> int:
    return int.from_bytes(data, "little")


def _size_of(kind: bytes, data: memoryview) -> tuple[int, int]:
    """Width and height, as the coded pixels themselves begin with them: 14 bits each."""
    if kind == b"VP8L" and len(data) >= 5 and data[:1] == _LOSSLESS_START:
        bits = int.from_bytes(data[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and len(data) >= 10 and data[3:6] == _LOSSY_START:
        width, height = struct.unpack_from("<HH", data, 6)
        return width & 0x3FFF, height & 0x3FFF
    raise UnreadableImage(f"{CORRUPT}: its pixels begin with no header")
