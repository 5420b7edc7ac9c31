"""A PNG's chunks, checked one by one before a decoder sees them.

Source: PNG specification, third edition, section 5.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from headrace_models.errors import UnreadableImage
from headrace_models.preprocess.exif import UPRIGHT, orientation_of
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
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_PALETTE = 3
_HAVE_ALPHA = (4, 6)
_RGBA_BYTES = 4
_MAKES_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
# A 16 MiB file in libpng's usual pieces of 8 KiB has 2,048.
_MAX_CHUNKS = 8192
# Inflating an image's data twice adds about half to the time of decoding it: nothing for small
# images, and not worth it for large ones, since a decoder stops at the last pixel anyway.
_INFLATE_UP_TO_BYTES = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    width: int
    height: int
    depth: int
    colour: int
    pixel_bits: int
    is_interlaced: bool

    @property
    def data_bytes(self) -> int:
        """Length of the inflated image data.

        Each row begins with its filter and is filled up to bytes.
        """
        if not self.is_interlaced:
            return self._rows_bytes(self.width, self.height)
        return sum(
            self._rows_bytes(-(-(self.width - x) // dx), -(-(self.height - y) // dy))
            for x, y, dx, dy in _PASSES
        )

    def _rows_bytes(self, width: int, height: int) -> int:
        return height * (1 + -(-width * self.pixel_bits // 8)) if width > 0 and height > 0 else 0


def png_pixels(raw: bytes, max_pixels: int) -> tuple[bytes, int]:
    """The image reduced to the chunks that make its pixels, and its orientation.

    Metadata and everything behind the image's end are left out unread. Raises OversizedImage from
    the header alone, and UnreadableImage for a PNG that is broken or animated.
    """
    chunks = _chunks(memoryview(raw))
    header = _header(*next(chunks), max_pixels)
    kept = [raw[: len(SIGNATURE) + _HEADER.size + 12]]
    data: list[memoryview] = []
    orientation = UPRIGHT
    for kind, chunk in chunks:
        if kind == b"acTL":
            raise UnreadableImage("animated images are not supported")
        if kind == b"tRNS":
            kept.append(_transparency(chunk[8:-4], header))
        elif kind == b"eXIf":
            orientation = orientation_of(chunk[8:-4])
        elif kind in _MAKES_PIXELS:
            kept.append(bytes(chunk))
            if kind == b"IDAT":
                data.append(chunk[8:-4])
        elif not kind[0] & 0x20:  # an upper-case letter: a decoder must know it
            raise UnreadableImage(f"{CORRUPT}: it has a chunk that PNG does not have")
    _check_data(data, header)
    return b"".join(kept), orientation


def _chunks(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The kind of each chunk, and all its bytes: length, kind, data and checksum."""
    offset = len(SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        end = offset + 12 + int.from_bytes(view[offset : offset + 4], "big")
        kind = bytes(view[offset + 4 : offset + 8])
        if end > len(view):
            raise UnreadableImage(f"{CORRUPT}: it ends too early")
        if zlib.crc32(view[offset + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise UnreadableImage(f"{CORRUPT}: a checksum is wrong")
        yield kind, view[offset:end]
        offset = end
        if kind == b"IEND":
            return
    raise UnreadableImage(f"the image has too many chunks (limit {_MAX_CHUNKS})")


def _header(kind: bytes, chunk: memoryview, max_pixels: int) -> _Header:
    if kind != b"IHDR" or len(chunk) != _HEADER.size + 12:
        raise UnreadableImage(f"{CORRUPT}: it does not begin with its header")
    width, height, depth, colour, packing, filtering, interlacing = _HEADER.unpack(chunk[8:-4])
    channels, depths = _COLOURS.get(colour, (0, ()))
    if depth not in depths or packing or filtering or interlacing > 1:
        raise UnreadableImage(f"{CORRUPT}: its header says what PNG does not have")
    decoded = _RGBA_BYTES if colour in _HAVE_ALPHA else 0  # before it is laid on white
    check_size(width, height, max(decoded, channels * -(-depth // 8)), max_pixels)
    return _Header(
        width=width,
        height=height,
        depth=depth,
        colour=colour,
        pixel_bits=channels * depth,
        is_interlaced=bool(interlacing),
    )


def _transparency(data: memoryview, header: _Header) -> bytes:
    """A palette's chunk as it is; otherwise the transparent colour in eight bits a sample.

    Pillow compares the colour with its own pixels, of eight bits, but reads it as the file has it.
    A chunk of another length is ignored.
    """
    if header.colour == _PALETTE:
        return _chunk(b"tRNS", bytes(data))
    if len(data) != 2 * _COLOURS[header.colour][0] or header.colour in _HAVE_ALPHA:
        return b""
    most = (1 << header.depth) - 1
    samples = [sample & most for (sample,) in struct.iter_unpack(">H", data)]
    scaled = [sample >> 8 if header.depth == 16 else sample * 255 // most for sample in samples]
    return _chunk(b"tRNS", struct.pack(f">{len(scaled)}H", *scaled))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


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
