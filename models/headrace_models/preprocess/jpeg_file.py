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
# C3 to CF but for the Huffman tables: lossless, hierarchical and arithmetic-coded images.
_OTHER_PROCESSES = frozenset(range(0xC3, 0xD0)) - {_DHT}
# What ends a scan: any marker but a stuffed zero byte, a restart, and fill bytes.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_NO_FILL = re.compile(rb"[^\xff]")
_MAX_SEGMENTS = 1024
# A progressive photo has about ten scans. Each is a pass over all pixels, of which a hostile file says little.
_MAX_SCANS = 100
_MAX_SCANNED_PIXELS = 200_000_000


def jpeg_pixels(raw: bytes, max_pixels: int) -> tuple[bytes, int]:
    """The same image, of nothing but the segments that make its pixels, and its orientation.

    What follows the image's end is left out, as is metadata: cameras append previews and films to photos.
    Raises OversizedImage from the header alone, and UnreadableImage for what is no whole and sound JPEG.
    """
    kept, pixels, scans, exif = [raw[:2]], 0, 0, b""
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
    """Marker, start and end of each segment up to the image's end; a scan's holds its coded pixels."""
    place = 2
    for _ in range(_MAX_SEGMENTS):
        after_fill = _NO_FILL.search(raw, place)
        if after_fill is None or after_fill.start() == place:
            raise UnreadableImage(f"{CORRUPT}: expected a marker at byte {place}")
        start, marker = after_fill.start() - 1, raw[after_fill.start()]
        if marker == _EOI:
            yield marker, start, start + 2
            return
        length = int.from_bytes(raw[start + 2 : start + 4], "big")
        place = start + 2 + length
        if length < 2 or place > len(raw):
            raise UnreadableImage(f"{CORRUPT}: it ends too early")
        if marker == _SOS:
            scan_end = _SCAN_END.search(raw, place)
            if scan_end is None:
                raise UnreadableImage(f"{CORRUPT}: it ends too early")
            place = scan_end.start()
        yield marker, start, place
    raise UnreadableImage(f"the image has too many segments (limit {_MAX_SEGMENTS})")


def _check_scans(scans: int, pixels: int) -> None:
    if not pixels:
        raise UnreadableImage(f"{CORRUPT}: its pixels come before its header")
    if scans > min(_MAX_SCANS, _MAX_SCANNED_PIXELS // pixels):
        raise UnreadableImage(f"the image has too many scans (limit {scans - 1} for its size)")


def _read_header(segment: bytes, max_pixels: int) -> int:
    """The number of pixels. The segment: marker, length, bits a sample, height, width, components."""
    if len(segment) < 10:
        raise UnreadableImage(f"{CORRUPT}: its header is too short")
    if segment[4] != 8:
        raise UnreadableImage(
            f"unsupported image format: expected a JPEG of 8 bits a sample, found {segment[4]}"
        )
    height, width, components = (
        int.from_bytes(segment[5:7], "big"),
        int.from_bytes(segment[7:9], "big"),
        segment[9],
    )
    check_size(width, height, components, max_pixels)
    return width * height


def _exif_of(segment: bytes) -> bytes:
    """What an APP1 segment says behind its marker and length, if it is EXIF; XMP is one too."""
    return segment[4:] if segment[4:].startswith(_EXIF) else b""


def _is_metadata(marker: int) -> bool:
    """Comments and application segments, but for those of JFIF and Adobe, which say what the colours mean."""
    return marker == _COM or (_APP0 < marker <= _APP15 and marker != _APP14)
