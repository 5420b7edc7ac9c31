"""A PNG's chunks, checked one by one before a decoder sees them (PNG specification, third edition, section 5)."""

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from headrace_models.errors import UnreadableImage
from headrace_models.preprocess.image_size import CORRUPT, check_size

__all__ = ["SIGNATURE", "png_pixels"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_HEADER = struct.Struct(">IIBBBBB")
# Colour type -> channels and the bit depths that it may have.
_COLOURS: Mapping[int, tuple[int, tuple[int, ...]]] = {
    0: (1, (1, 2, 4, 8, 16)),
    2: (3, (8, 16)),
    3: (1, (1, 2, 4, 8)),
    4: (2, (8, 16)),
    6: (4, (8, 16)),
}
# Adam7: the first column and row of each pass, and the steps.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_MAKES_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
# A 16 MiB file in libpng's usual pieces of 8 KiB has 2,048.
_MAX_CHUNKS = 8192
_MAX_METADATA_BYTES = 512 << 10
_MAX_PADDING_BYTES = 64
# Inflating an image's data twice costs about half as much again as decoding it: for small images that is nothing,
# and for large ones more than it is worth, since a decoder stops at the last pixel anyway.
_INFLATE_UP_TO_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    height: int
    pixel_bits: int
    is_interlaced: bool

    @property
    def data_bytes(self) -> int:
        """The length of the inflated image data: each row is filled up to bytes and begins with its filter's."""
        if not self.is_interlaced:
            return self._rows_bytes(self.width, self.height)
        return sum(
            self._rows_bytes(-(-(self.width - x) // dx), -(-(self.height - y) // dy)) for x, y, dx, dy in _PASSES
        )

    def _rows_bytes(self, width: int, height: int) -> int:
        return height * (1 + -(-width * self.pixel_bits // 8)) if width > 0 and height > 0 else 0


def png_pixels(raw: bytes, max_pixels: int) -> bytes:
    """The same image, of nothing but the chunks that make its pixels.

    Raises OversizedImage from the header alone, and UnreadableImage for what is no whole and sound PNG, is animated,
    has more metadata than a photo needs, or is followed by something else.
    """
    chunks = _chunks(memoryview(raw))
    header = _header(*next(chunks), max_pixels)
    kept, data, metadata_bytes = [raw[: len(SIGNATURE) + _HEADER.size + 12]], [], 0
    for kind, chunk in chunks:
        if kind == b"acTL":
            raise UnreadableImage("animated images are not supported")
        if kind in _MAKES_PIXELS:
            kept.append(bytes(chunk))
            if kind == b"IDAT":
                data.append(chunk[8:-4])
            continue
        if not kind[0] & 0x20:  # an upper-case letter: a decoder must know it
            raise UnreadableImage(f"{CORRUPT}: it has a chunk that PNG does not have")
        metadata_bytes += _metadata_bytes(kind, chunk[8:-4])
        if metadata_bytes > _MAX_METADATA_BYTES:
            raise UnreadableImage(f"the image has too much metadata (limit {_MAX_METADATA_BYTES >> 10} KiB)")
    _check_data(data, header)
    return b"".join(kept)


def _chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The kind of each chunk, and all its bytes: length, kind, data and checksum."""
    place = len(SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        end = place + 12 + int.from_bytes(view[place : place + 4], "big")
        kind = bytes(view[place + 4 : place + 8])
        if end > len(view):
            raise UnreadableImage(f"{CORRUPT}: it ends too early")
        if zlib.crc32(view[place + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise UnreadableImage(f"{CORRUPT}: a checksum is wrong")
        yield kind, view[place:end]
        place = end
        if kind == b"IEND":
            return _check_end(view[place:])
    raise UnreadableImage(f"the image has too many chunks (limit {_MAX_CHUNKS})")


def _check_end(rest: memoryview) -> None:
    if len(rest) > _MAX_PADDING_BYTES or bytes(rest).strip(b"\0 \t\r\n"):
        raise UnreadableImage(f"{CORRUPT}: expected nothing behind its end, found {len(rest)} bytes")


def _header(kind: bytes, chunk: memoryview, max_pixels: int) -> _Header:
    if kind != b"IHDR" or len(chunk) != _HEADER.size + 12:
        raise UnreadableImage(f"{CORRUPT}: it does not begin with its header")
    width, height, depth, colour, packing, filtering, interlacing = _HEADER.unpack(chunk[8:-4])
    channels, depths = _COLOURS.get(colour, (0, ()))
    if depth not in depths or packing or filtering or interlacing > 1:
        raise UnreadableImage(f"{CORRUPT}: its header says what PNG does not have")
    check_size(width, height, channels * -(-depth // 8), max_pixels)
    return _Header(width, height, channels * depth, bool(interlacing))


def _metadata_bytes(kind: bytes, data: memoryview) -> int:
    """What a chunk of metadata takes, inflated where it is compressed, but never inflated beyond the limit."""
    name, _, rest = bytes(data).partition(b"\0")
    if kind == b"iTXt" and rest[:1] == b"\1":
        packed = rest[2:].split(b"\0", 2)[-1]
    elif kind in (b"iCCP", b"zTXt"):
        packed = rest[1:]
    else:
        return len(data)
    try:
        return len(name) + len(zlib.decompressobj().decompress(packed, _MAX_METADATA_BYTES + 1))
    except zlib.error:
        raise UnreadableImage(f"{CORRUPT}: its metadata does not inflate") from None


def _check_data(data: list[memoryview], header: _Header) -> None:
    if not data:
        raise UnreadableImage(f"{CORRUPT}: it has no pixels")
    if header.data_bytes > _INFLATE_UP_TO_BYTES:
        return
    try:
        inflated = zlib.decompressobj().decompress(b"".join(data), header.data_bytes + 1)
    except zlib.error:
        raise UnreadableImage(f"{CORRUPT}: its pixels do not inflate") from None
    if len(inflated) != header.data_bytes:
        raise UnreadableImage(f"{CORRUPT}: its pixels are not as many as its header says")
