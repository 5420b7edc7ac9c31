"""Photos, good and bad: PNG by hand, where a lie is wanted, and all else by Pillow."""

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO

from PIL import Image

__all__ = ["chunk", "photo", "png", "scans", "webp"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def chunk(kind: str, content: bytes, *, is_sound: bool = True) -> bytes:
    """A PNG chunk, with a wrong checksum unless it `is_sound`."""
    named = kind.encode() + content
    checksum = zlib.crc32(named) ^ (0 if is_sound else 1)
    return struct.pack(">I", len(content)) + named + struct.pack(">I", checksum)


def png(
    width: int = 8,
    height: int = 8,
    depth: int = 8,
    colour: int = 2,
    pixels: bytes | None = None,
    extra: bytes = b"",
    extra_kind: str = "tEXt",
    extra_times: int = 1,
    after: bytes = b"",
    broken: Sequence[str] = (),
    without: Sequence[str] = (),
    pieces: int = 1,
    interlaced: bool = False,
) -> bytes:
    """A grey PNG of `width` x `height`: `pixels` instead of its own, `extra` in chunks before them,
    `after` behind it.

    The pixels are in so many `pieces`. The chunks of `broken` have wrong checksums, those of
    `without` are left out.
    """
    if pixels is None:
        row = 1 + (width * _CHANNELS[colour] * depth + 7) // 8
        packer = zlib.compressobj(9)
        pixels = b"".join(packer.compress(bytes(row)) for _ in range(height)) + packer.flush()
    chunks = [("IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))]
    chunks += [("PLTE", bytes(3))] if colour == 3 else []
    chunks += [(extra_kind, extra)] * extra_times if extra else []
    size = -(-len(pixels) // pieces) or 1
    chunks += [
        ("IDAT", pixels[start : start + size]) for start in range(0, len(pixels) or 1, size)
    ] + [("IEND", b"")]
    written = [
        chunk(kind, data, is_sound=kind not in broken)
        for kind, data in chunks
        if kind not in without
    ]
    return _SIGNATURE + b"".join(written) + after


def photo(
    format_: str = "JPEG",
    mode: str = "RGB",
    width: int = 32,
    height: int = 32,
    frames: int = 1,
    orientation: int = 0,
    exif_bytes: int = 0,
    **options: bool | int,
) -> bytes:
    """A photo by Pillow, animated if it has several `frames`; `options` are its format's."""
    shades = [
        Image.new("RGB", (width, height), (n % 251, 90, 40)).convert(mode) for n in range(frames)
    ]
    more: dict[str, object] = dict(options)
    if frames > 1:
        more |= {"save_all": True, "append_images": shades[1:], "duration": 40}
    if orientation or exif_bytes:
        exif = Image.Exif()
        exif[0x0112] = orientation or 1
        exif[0x9286] = b"x" * exif_bytes
        more["exif"] = exif
    saved = BytesIO()
    shades[0].save(saved, format_, **more)
    return saved.getvalue()


def scans(of: bytes, times: int) -> bytes:
    """A progressive JPEG whose pixels are its first scan so many times."""
    start = of.index(b"\xff\xda")
    end = min(
        offset for kind in (b"\xff\xc4", b"\xff\xda") if (offset := of.find(kind, start + 2)) > 0
    )
    return of[:start] + of[start:end] * times + b"\xff\xd9"


def webp(chunks: Sequence[tuple[str, bytes]], size: int | None = None) -> bytes:
    """A WebP of these chunks, whose header says `size`, by default the right one."""
    written = [
        kind.encode() + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
        for kind, data in chunks
    ]
    body = b"WEBP" + b"".join(written)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body
