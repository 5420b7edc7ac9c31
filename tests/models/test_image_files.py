"""Malicious images: each is refused with a sentence of its own, before it costs much."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.models.image_files import chunk, encoded, header, oriented, png, webp, webp_chunk

from headrace_models.errors import BadInput, OversizedImage, UnreadableImage
from headrace_models.preprocess import load
from headrace_models.spec import ImageSpec

CORRUPT = "^the image is corrupt"


def read(raw: bytes, **changes: Any) -> np.ndarray:
    values: dict[str, Any] = {
        "kind": "image",
        "output": "x",
        "size": 8,
        "crop": 1.0,
        "mean": 0.0,
        "scale": 1.0,
    }
    return load(ImageSpec(**(values | changes)), Path())(raw).tensors["x"]


def noise(width: int = 32, height: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


WEBP = encoded(noise(), "WEBP", quality=90)
WEBP_LOSSLESS = encoded(noise(), "WEBP", lossless=True)[20:]
GREY = chunk(b"IDAT", zlib.compress((b"\0" + bytes(8)) * 8))
PNG = encoded(noise())
JPEG = encoded(noise(), "JPEG", quality=90)
PROGRESSIVE = encoded(noise(), "JPEG", quality=90, progressive=True)
BOMB = zlib.compress(bytes(16 << 20))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"text",
        b"<html></html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"icns\0\0\0\x10",
        b"\0\0\0\x18ftypheic",
        *(
            encoded(noise(8, 8), kind)
            for kind in ("GIF", "BMP", "TIFF", "AVIF", "ICO", "PPM", "JPEG2000")
        ),
    ],
    ids=[
        "nothing",
        "text",
        "HTML",
        "SVG",
        "PDF",
        "EPS",
        "ICNS",
        "HEIC",
        "GIF",
        "BMP",
        "TIFF",
        "AVIF",
        "ICO",
        "PPM",
        "JPEG 2000",
    ],
)
def test_what_is_no_jpeg_png_nor_webp_by_its_signature_is_refused(raw: bytes) -> None:
    with pytest.raises(
        UnreadableImage, match=r"^unsupported image format: expected JPEG, PNG or WebP$"
    ):
        read(raw)


def jpeg_header(width: int, height: int, components: int = 3) -> bytes:
    body = struct.pack(">BHHB", 8, height, width, components) + b"\1\x11\0" * components
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(body) + 2) + body


def lossy_header(width: int, height: int) -> bytes:
    return webp_chunk(
        b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(20)
    )


def lossless_header(width: int, height: int) -> bytes:
    return webp_chunk(
        b"VP8L", b"\x2f" + struct.pack("<I", (height - 1) << 14 | (width - 1)) + bytes(20)
    )


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (png(header(10_000, 8_900, depth=1)), "limit 16 megapixels): found 10000x8900"),
        (png(header(2**31 - 1, 2**31 - 1)), "limit 16 megapixels"),
        (png(header(8_193, 1)), "limit 8192 pixels a side): found 8193x1"),
        (
            png(header(4_000, 4_000, depth=16, colour=6)),
            "limit 48 MiB decoded): found 4000x4000 of 8 bytes each",
        ),
        (jpeg_header(65_535, 65_535), "limit 16 megapixels"),
        (
            png(header(3_600, 3_600, depth=8, colour=4)),
            "limit 48 MiB decoded): found 3600x3600 of 4 bytes each",
        ),
        (jpeg_header(1, 8_193), "limit 8192 pixels a side"),
        (webp(lossy_header(16_383, 16_383)), "limit 16 megapixels): found 16383x16383"),
        (webp(lossless_header(16_384, 1)), "limit 8192 pixels a side): found 16384x1"),
        (
            webp(lossy_header(4_000, 4_000)),
            "limit 48 MiB decoded): found 4000x4000 of 4 bytes each",
        ),
        (
            webp(lossless_header(3_000, 3_000)),
            "limit 48 MiB decoded): found 3000x3000 of 8 bytes each",
        ),
        (
            webp(
                webp_chunk(b"VP8X", bytes(10)), webp_chunk(b"ALPH", b""), lossy_header(3_000, 3_000)
            ),
            "limit 48 MiB decoded): found 3000x3000 of 8 bytes",
        ),
        (
            webp(webp_chunk(b"VP8L", WEBP_LOSSLESS + bytes(5 << 20))),
            "limit 4 MiB as WebP): found 524",
        ),
    ],
)
def test_an_image_too_large_is_refused_from_its_header(raw: bytes, message: str) -> None:
    with pytest.raises(OversizedImage) as refused:
        read(raw)
    assert message in str(refused.value)
    assert str(refused.value).startswith("image too large (")


def test_the_limits_themselves_are_kept_to() -> None:
    assert read(encoded(Image.new("1", (8_192, 1)))).shape == (1, 3, 8, 8)
    assert read(encoded(Image.new("L", (50, 20))), max_pixels=1000).shape == (1, 3, 8, 8)
    with pytest.raises(OversizedImage, match=r"limit 0.001 megapixels\): found 1001x1"):
        read(encoded(Image.new("L", (1001, 1))), max_pixels=1000)


def without_checksum(raw: bytes) -> bytes:
    offset = raw.index(b"IDAT") + 20
    return raw[:offset] + bytes([raw[offset] ^ 1]) + raw[offset + 1 :]


def pixels(data: bytes) -> bytes:
    return png(header(8, 8), chunk(b"IDAT", data))


BROKEN: dict[str, bytes] = {
    "no width": png(header(0, 8), GREY),
    "no height": jpeg_header(8, 0),
    "a header alone": png(header(8, 8)),
    "no header": png(GREY),
    "a depth that PNG lacks": png(header(8, 8, depth=3), GREY),
    "colours that PNG lacks": png(header(8, 8, colour=5), GREY),
    "a wrong checksum": without_checksum(PNG),
    "more pixels than it says": pixels(zlib.compress((b"\0" + bytes(8)) * 9)),
    "fewer pixels than it says": pixels(zlib.compress((b"\0" + bytes(8)) * 7)),
    "pixels that do not inflate": pixels(b"\x78\x9c" + b"\xff" * 50),
    "a filter that PNG lacks": pixels(zlib.compress((b"\x09" + bytes(8)) * 8)),
    "a critical chunk that PNG lacks": png(header(8, 8), chunk(b"ABCD"), GREY),
    "no scan": JPEG[: JPEG.index(b"\xff\xda")] + b"\xff\xd9",
    "no end": JPEG[:-2],
    "two headers": JPEG[:2] + jpeg_header(8, 8)[2:] + JPEG[2:],
    "a Huffman table of more codes than there are": JPEG.replace(
        b"\xff\xc4\x00\x1f\x00", b"\xff\xc4\x00\x1f\x00\xff"
    ),
    "a marker alone": b"\xff\xd8\xff",
    "fill without end": b"\xff\xd8" + b"\xff" * 100_000,
    "a WebP of no chunks": webp(),
    "a WebP of metadata": webp(webp_chunk(b"EXIF", b"II*\0")),
    "a WebP of no width": webp(lossy_header(0, 8)),
    "a WebP whose pixels have no header": webp(webp_chunk(b"VP8 ", bytes(40))),
    "a WebP of a header alone": webp(lossless_header(8, 8)),
    "a WebP chunk of a file that is too long": webp(b"VP8 \xff\xff\xff\xff" + bytes(40)),
    "a WebP of two sizes": webp(webp_chunk(b"VP8X", bytes(10)), WEBP[12:]),
    "a WebP header of a few bytes": webp(webp_chunk(b"VP8X", bytes(3)), WEBP[12:]),
    "a scan of fill": JPEG[:-2] + b"\xff" * 100_000,
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_image_is_corrupt(what: str) -> None:
    with pytest.raises(UnreadableImage, match=CORRUPT):
        read(BROKEN[what])


@pytest.mark.parametrize(
    "raw", [PNG, JPEG, PROGRESSIVE, WEBP], ids=["PNG", "JPEG", "progressive", "WebP"]
)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.99])
def test_a_truncated_photo_is_corrupt(raw: bytes, share: float) -> None:
    with pytest.raises(UnreadableImage, match=CORRUPT):
        read(raw[: int(len(raw) * share)])


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (8, 8), (13, 2)])
def test_images_of_every_layout_have_as_many_pixels_as_they_say(
    width: int, height: int, interlaced: bool
) -> None:
    """Adam7's seven passes are each an image of their own, some of them empty."""
    passes = [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]
    sizes = [(len(range(x, width, dx)), len(range(y, height, dy))) for x, y, dx, dy in passes]
    data = b"".join(
        (b"\0" + b"\x80" * w) * h
        for w, h in (sizes if interlaced else [(width, height)])
        if w and h
    )
    raw = png(header(width, height, interlaced=interlaced), chunk(b"IDAT", zlib.compress(data)))
    assert np.unique(read(raw)).tolist() == [128.0]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animated_image_is_refused(kind: str) -> None:
    frames = [noise(8, 8) for _ in range(3)]
    raw = encoded(
        frames[0], kind, save_all=True, append_images=[Image.new("RGB", (8, 8)), *frames[1:]]
    )
    with pytest.raises(UnreadableImage, match=r"^animated images are not supported$"):
        read(raw)


def metadata(kind: bytes, data: bytes, times: int = 1) -> Callable[[], bytes]:
    return lambda: png(header(8, 8), chunk(kind, data) * times, GREY)


HEAVY: dict[str, tuple[Callable[[], bytes], str]] = {
    "10,000 chunks": (metadata(b"tEXt", b"a\0b", 10_000), "too many chunks"),
    "1,100 segments": (
        lambda: JPEG[:2] + b"\xff\xfe\x00\x02" * 1100 + JPEG[2:],
        "too many segments",
    ),
    "1,100 chunks of a WebP": (
        lambda: webp(webp_chunk(b"XMP ", b"a") * 1100, WEBP[12:]),
        "too many chunks",
    ),
    "101 scans": (lambda: scans(101), "too many scans"),
}


def scans(count: int) -> bytes:
    first, end = (
        PROGRESSIVE.index(b"\xff\xda"),
        PROGRESSIVE.index(b"\xff\xc4", PROGRESSIVE.index(b"\xff\xda")),
    )
    return PROGRESSIVE[:first] + PROGRESSIVE[first:end] * count + b"\xff\xd9"


@pytest.mark.parametrize("what", HEAVY)
def test_a_file_that_would_cost_much_is_refused_for_little_memory(what: str) -> None:
    make, message = HEAVY[what]
    raw = make()
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableImage, match=message):
            read(raw)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 2 * len(raw) + (4 << 20)


LADEN: dict[str, tuple[bytes, Callable[[], bytes]]] = {
    "a text that would inflate to 16 MiB": (GREY, metadata(b"zTXt", b"name\0\0" + BOMB)),
    "a profile that would inflate to 16 MiB": (GREY, metadata(b"iCCP", b"name\0\0" + BOMB)),
    "a profile that does not inflate": (GREY, metadata(b"iCCP", b"name\0\0" + b"\xff" * 50)),
    "texts that would inflate to 4 GiB": (
        GREY,
        metadata(b"iTXt", b"name\0\1\0en\0name\0" + BOMB, 256),
    ),
    "a profile of 3 MB": (GREY, metadata(b"iCCP", b"name\0\0" + bytes(3_000_000))),
    "3 MB of EXIF that is none": (GREY, metadata(b"eXIf", bytes(3_000_000))),
    "3 MB of XMP in a WebP": (WEBP, lambda: webp(WEBP[12:], webp_chunk(b"XMP ", bytes(3_000_000)))),
    "3 MB of comments in a JPEG": (
        JPEG,
        lambda: JPEG[:2] + (b"\xff\xfe\xff\xff" + bytes(65_533)) * 46 + JPEG[2:],
    ),
}


@pytest.mark.parametrize("what", LADEN)
def test_metadata_of_any_size_is_passed_over_for_little_memory(what: str) -> None:
    bare, make = LADEN[what]
    raw, expected = make(), read(png(header(8, 8), GREY) if bare is GREY else bare)
    tracemalloc.start()
    try:
        found = read(raw)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(found, expected)
    assert most_bytes < 2 * len(raw) + (1 << 20)


def test_a_large_image_may_have_fewer_scans() -> None:
    first = PROGRESSIVE.index(b"\xff\xc2")
    large = PROGRESSIVE.replace(
        PROGRESSIVE[first : first + 9], b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", 4000, 4000)
    )
    end = large.index(b"\xff\xc4", large.index(b"\xff\xda"))
    scan = large[large.index(b"\xff\xda") : end]
    with pytest.raises(UnreadableImage, match=r"too many scans \(limit 12 for its size\)"):
        read(large[:end] + scan * 12 + b"\xff\xd9")


def test_arithmetic_coded_and_deep_jpegs_are_no_format_of_ours() -> None:
    with pytest.raises(UnreadableImage, match="expected a baseline or progressive JPEG"):
        read(JPEG.replace(b"\xff\xc0", b"\xff\xc9", 1))
    with pytest.raises(UnreadableImage, match="8 bits a sample, found 12"):
        read(JPEG.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c", 1))


@pytest.mark.parametrize("raw", [PNG, JPEG, WEBP], ids=["PNG", "JPEG", "WebP"])
def test_what_is_behind_the_end_of_a_photo_changes_nothing(raw: bytes) -> None:
    """Previews, films, second pictures and padding follow the end of real photos."""
    expected = read(raw)
    for appended in (raw, JPEG, b"PK\3\4", b"\0", bytes(5_000_000), b"\0\0\0\x18ftypmp42"):
        assert np.array_equal(read(raw + appended), expected)


def test_metadata_changes_no_pixel() -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        bare = encoded(noise(), kind)
        laden = encoded(
            noise(),
            kind,
            exif=oriented(1),
            icc_profile=bytes(1000),
            dpi=(300, 300),
            comment=b"text",
        )
        assert len(laden) > len(bare)
        assert np.array_equal(read(laden), read(bare))


def entry(tag: int = 0x0112, kind: int = 3, count: int = 1, value: int = 6) -> bytes:
    return struct.pack("<HHIHH", tag, kind, count, value, 0)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"MM*\0\0\0\0\x08\0\1" + entry(),
        b"II*\0\xff\xff\xff\xff\1\0" + entry(),
        b"II*\0\x08\0\0\0\xff\xff" + entry(tag=1) * 3,
        b"II*\0\x08\0\0\0\1\0" + entry()[:5],
        b"II*\0\x08\0\0\0\1\0" + entry(value=0),
        b"II*\0\x08\0\0\0\1\0" + entry(value=9),
        b"II*\0\x08\0\0\0\1\0" + entry(kind=4),
        b"II*\0\x08\0\0\0\1\0" + entry(count=1 << 30),
    ],
    ids=["none", "short", "no order", "nowhere", "too few", "cut", "0", "9", "long", "many"],
)
def test_exif_that_says_nothing_fails_no_photo(exif: bytes) -> None:
    header_of_app1 = b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0"
    flags = webp_chunk(b"VP8X", b"\x08\0\0\0" + b"\x1f\0\0" * 2)
    for bare, laden in (
        (PNG, PNG[:33] + chunk(b"eXIf", exif) + PNG[33:]),
        (JPEG, JPEG[:2] + header_of_app1 + exif + JPEG[2:]),
        (WEBP, webp(flags, WEBP[12:], webp_chunk(b"EXIF", exif))),
    ):
        assert np.array_equal(read(laden), read(bare))


def test_exif_is_read_in_either_order_with_or_without_its_name() -> None:
    expected = read(encoded(noise(), exif=oriented(6)))
    assert not np.array_equal(expected, read(PNG))
    for exif in (
        b"II*\0\x08\0\0\0\2\0" + entry(tag=0x010F) + entry(),
        b"Exif\0\0MM\0*\0\0\0\x08\0\1" + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0),
    ):
        assert np.array_equal(read(PNG[:33] + chunk(b"eXIf", exif) + PNG[33:]), expected)


@pytest.mark.parametrize(
    "raw", [PNG, JPEG, PROGRESSIVE, WEBP], ids=["PNG", "JPEG", "progressive", "WebP"]
)
def test_a_damaged_photo_is_read_or_refused_in_a_sentence_of_ours(raw: bytes) -> None:
    chance, messages = np.random.default_rng(0), set[str]()
    for _ in range(300):
        damaged = bytearray(raw)
        for offset in chance.integers(0, len(raw), 3):
            damaged[offset] = chance.integers(0, 256)
        try:
            read(bytes(damaged))
        except BadInput as error:
            messages.add(str(error))
    assert messages
    assert [
        sentence for sentence in messages if "object at" in sentence or len(sentence) > 150
    ] == []


def test_pillow_agrees_with_what_is_left_of_a_photo() -> None:
    whole = np.asarray(Image.open(io.BytesIO(PNG)), np.float32)
    assert np.array_equal(read(PNG, size=32)[0].transpose(1, 2, 0), whole)
