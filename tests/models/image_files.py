"""Image files for tests: sound ones from Pillow, and any others chunk by chunk."""

import io
import struct
import zlib
from typing import Any

from PIL import Image

__all__ = ["chunk", "encoded", "header", "oriented", "png", "webp", "webp_chunk"]


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(
    width: int, height: int, *, depth: int = 8, colour: int = 0, interlaced: bool = False
) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


def png(*chunks: bytes) -> bytes:
    """A PNG of these chunks, with the signature, header and end of every PNG around them."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND")


def webp(*chunks: bytes) -> bytes:
    """These chunks as a file."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def oriented(orientation: int) -> Image.Exif:
    """EXIF with a photo's orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif
