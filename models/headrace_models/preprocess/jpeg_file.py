"""A JPEG's segments, checked one by one before a decoder sees them (ITU-T T.81, annex B)."""

import re
from collections.abc import Iterator

from headrace_models.errors import UnreadableImage
from headrace_models.preprocess.exif import orientation_of
from headrace_models.preprocess.image_size import CORRUPT, check_size

__all__ = ["SIGNATURE", "jpeg_pixels"]

SIGNATURE = b"\xff\xd8\xff"

_SOF_BASELINE, _SOF_EXTENDED, _SOF_PROGRESSIVE, _DHT = 0xC0, 0xC1, 0xC2, 0xC4
_EOI, _SOS, _APP0, _APP1, _APP14, _APP15, _COM = 0xD9, 0xDA, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_EXIF = b"Exif\0\0"
# C3 to CF except the Huffman tables: lossless, hierarchical and arithmetic-coded images.
_OTHER_PROCESSES = frozenset(range(0xC3, 0xD0)) - {_DHT}
# A scan ends at any marker except a stuffed zero byte, a restart and fill bytes.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_NO_FILL = re.compile(rb"[^\xff]")
_MAX_SEGMENTS = 1024
# A progressive photo has about ten scans. Each is a pass over all pixels, which costs a hostile
# file few bytes.
_MAX_SCANS = 100
_MAX_SCANNED_PIXELS = 200_000_000


def jpeg_pixels(raw: bytes, max_pixels: int) -> tuple[bytes, int]:
    """The image reduced to the segments that make its pixels, and its orientation.

    Metadata is left out, and everything behind the image's end: cameras append previews and films.
    Raises OversizedImage from the header alone, and UnreadableImage for a broken JPEG.
    """
    kept = [raw[:2]]
    pixels = scans = 0
    exif = b""
    for marker, start, end in _segments(raw):
        if marker in (_SOF_BASELINE, _SOF_EXTENDED, _SOF_PROGRESSIVE):
            if pixels:
                raise UnreadableImage(f"{CORRUPT}: it has two headers")
            pixels = _read_header(raw[start:end], max_pixels)
        elif marker in _OTHER_PROCESSES:
            raise UnreadableImage(
                "unsupported image format: expected a baseline or progressive JPEG"
            )
        elif marker == _SOS:
            scans += 1
            _check_scans(scans, pixels)
        if not _is_metadata(marker):
            kept.append(raw[start:end])
        elif marker == _APP1:
            exif = exif or _exif_of(raw[start:end])
    if not scans:
        raise UnreadableImage(f"{CORRUPT}: it has no pixels")
    return b"".join(kept), orientation_of(exif)


def _segments(raw: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment up to the image's end. A scan includes its pixels."""
    offset = 2
    for _ in range(_MAX_SEGMENTS):
        after_fill = _NO_FILL.search(raw, offset)
        if after_fill is None or after_fill.start() == offset:
            raise UnreadableImage(f"{CORRUPT}: expected a marker at byte {offset}")
        start = after_fill.start() - 1
        marker = raw[after_fill.start()]
        if marker == _EOI:
            yield marker, start, start + 2
            return
        length = int.from_bytes(raw[start + 2 : start + 4], "big")
        offset = start + 2 + length
        if length < 2 or offset > len(raw):
            raise UnreadableImage(f"{CORRUPT}: it ends too early")
        if marker == _SOS:
            scan_end = _SCAN_END.search(raw, offset)
            if scan_end is None:
                raise UnreadableImage(f"{CORRUPT}: it ends too early")
            offset = scan_end.start()
        yield marker, start, offset
    raise UnreadableImage(f"the image has too many segments (limit {_MAX_SEGMENTS})")


def _check_scans(scans: int, pixels: int) -> None:
    if not pixels:
        raise UnreadableImage(f"{CORRUPT}: its pixels come before its header")
    if scans > min(_MAX_SCANS, _MAX_SCANNED_PIXELS // pixels):
        raise UnreadableImage(f"the image has too many scans (limit {scans - 1} for its size)")


def _read_header(segment: bytes, max_pixels: int) -> int:
    """The number of pixels.

    A segment has marker, length, bits a sample, height, width, components.
    """
    if len(segment) < 10:
        raise UnreadableImage(f"{CORRUPT}: its header is too short")
    if segment[4] != 8:
        raise UnreadableImage(
            f"unsupported image format: expected a JPEG of 8 bits a sample, found {segment[4]}"
        )
    height = int.from_bytes(segment[5:7], "big")
    width = int.from_bytes(segment[7:9], "big")
    components = segment[9]
    check_size(width, height, components, max_pixels)
    return width * height


def _exif_of(segment: bytes) -> bytes:
    """The content of an APP1 segment if it is EXIF; XMP is an APP1 segment too."""
    return segment[4:] if segment[4:].startswith(_EXIF) else b""


def _is_metadata(marker: int) -> bool:
    """A comment or application segment; not those of JFIF and Adobe, which define the colours."""
    return marker == _COM or (_APP0 < marker <= _APP15 and marker != _APP14)
