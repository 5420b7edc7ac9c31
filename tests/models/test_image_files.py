"""Images made to hurt: each is refused in its own sentence, before a decoder or much memory is spent on it."""

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
from tests.models.image_files import chunk, encoded, header, png

from headrace_models.errors import BadInput, OversizedImage, UnreadableImage
from headrace_models.preprocess import load
from headrace_models.spec import ImageSpec

CORRUPT = "^the image is corrupt"


def read(raw: bytes, **changes: Any) -> np.ndarray:
    values: dict[str, Any] = {"kind": "image", "output": "x", "size": 8, "crop": 1.0, "mean": 0.0, "scale": 1.0}
    return load(ImageSpec(**(values | changes)), Path())(raw)["x"]


def noise(width: int = 32, height: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


GREY = chunk(b"IDAT", zlib.compress((b"\0" + bytes(8)) * 8))
PNG = encoded(noise())
JPEG = encoded(noise(), "JPEG", quality=90)
PROGRESSIVE = encoded(noise(), "JPEG", quality=90, progressive=True)
BOMB = zlib.compress(bytes(16 << 20))
PROFILE = b"name\0\0"


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
        *(encoded(noise(8, 8), kind) for kind in ("GIF", "BMP", "TIFF", "WEBP")),
    ],
    ids=["nothing", "text", "HTML", "SVG", "PDF", "EPS", "ICNS", "HEIC", "GIF", "BMP", "TIFF", "WEBP"],
)
def test_what_is_no_jpeg_nor_png_by_its_signature_is_refused(raw: bytes) -> None:
    with pytest.raises(UnreadableImage, match=r"^unsupported image format: expected JPEG or PNG$"):
        read(raw)


def jpeg_header(width: int, height: int, components: int = 3) -> bytes:
    body = struct.pack(">BHHB", 8, height, width, components) + b"\1\x11\0" * components
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (png(header(10_000, 8_900, depth=1)), "limit 16 megapixels): found 10000x8900"),
        (png(header(2**31 - 1, 2**31 - 1)), "limit 16 megapixels"),
        (png(header(8_193, 1)), "limit 8192 pixels a side): found 8193x1"),
        (png(header(4_000, 4_000, depth=16, colour=6)), "limit 64 MiB decoded): found 4000x4000 of 8 bytes each"),
        (jpeg_header(65_535, 65_535), "limit 16 megapixels"),
        (jpeg_header(1, 8_193), "limit 8192 pixels a side"),
    ],
)
def test_an_image_too_large_is_refused_from_its_header(raw: bytes, says: str) -> None:
    with pytest.raises(OversizedImage) as refused:
        read(raw)
    assert says in str(refused.value)
    assert str(refused.value).startswith("image too large (")


def test_the_limits_themselves_are_kept_to() -> None:
    assert read(encoded(Image.new("1", (8_192, 1)))).shape == (1, 3, 8, 8)
    assert read(encoded(Image.new("L", (50, 20))), max_pixels=1000).shape == (1, 3, 8, 8)
    with pytest.raises(OversizedImage, match=r"limit 0.001 megapixels\): found 1001x1"):
        read(encoded(Image.new("L", (1001, 1))), max_pixels=1000)


def without_checksum(raw: bytes) -> bytes:
    place = raw.index(b"IDAT") + 20
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


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
    "5 MB behind its end": PNG + bytes(5_000_000),
    "an archive behind its end": PNG + b"PK\3\4",
    "a critical chunk that PNG lacks": png(header(8, 8), chunk(b"ABCD"), GREY),
    "a profile that does not inflate": png(header(8, 8), chunk(b"iCCP", PROFILE + b"\xff" * 50), GREY),
    "no scan": JPEG[: JPEG.index(b"\xff\xda")] + b"\xff\xd9",
    "no end": JPEG[:-2],
    "two headers": JPEG[:2] + jpeg_header(8, 8)[2:] + JPEG[2:],
    "a Huffman table of more codes than there are": JPEG.replace(b"\xff\xc4\x00\x1f\x00", b"\xff\xc4\x00\x1f\x00\xff"),
    "a marker alone": b"\xff\xd8\xff",
    "fill without end": b"\xff\xd8" + b"\xff" * 100_000,
    "a scan of fill": JPEG[:-2] + b"\xff" * 100_000,
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_image_is_corrupt(what: str) -> None:
    with pytest.raises(UnreadableImage, match=CORRUPT):
        read(BROKEN[what])


@pytest.mark.parametrize("raw", [PNG, JPEG, PROGRESSIVE], ids=["PNG", "JPEG", "progressive"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.99])
def test_a_truncated_photo_is_corrupt(raw: bytes, share: float) -> None:
    with pytest.raises(UnreadableImage, match=CORRUPT):
        read(raw[: int(len(raw) * share)])


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (8, 8), (13, 2)])
def test_images_of_every_layout_have_as_many_pixels_as_they_say(width: int, height: int, interlaced: bool) -> None:
    """Adam7's seven passes are each an image of their own, some of them empty."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    sizes = [(len(range(x, width, dx)), len(range(y, height, dy))) for x, y, dx, dy in passes]
    data = b"".join((b"\0" + b"\x80" * w) * h for w, h in (sizes if interlaced else [(width, height)]) if w and h)
    raw = png(header(width, height, interlaced=interlaced), chunk(b"IDAT", zlib.compress(data)))
    assert np.unique(read(raw)).tolist() == [128.0]


def test_an_animated_image_is_refused() -> None:
    frames = [noise(8, 8) for _ in range(3)]
    raw = encoded(frames[0], save_all=True, append_images=[Image.new("RGB", (8, 8)), *frames[1:]])
    with pytest.raises(UnreadableImage, match=r"^animated images are not supported$"):
        read(raw)


def metadata(kind: bytes, data: bytes, times: int = 1) -> Callable[[], bytes]:
    return lambda: png(header(8, 8), chunk(kind, data) * times, GREY)


HEAVY: dict[str, tuple[Callable[[], bytes], str]] = {
    "a text that inflates to 16 MiB": (metadata(b"zTXt", b"name\0\0" + BOMB), "too much metadata"),
    "a profile that inflates to 16 MiB": (metadata(b"iCCP", PROFILE + BOMB), "too much metadata"),
    "an international text that inflates to 16 MiB": (
        metadata(b"iTXt", b"name\0\1\0en\0name\0" + BOMB),
        "too much metadata",
    ),
    "texts that inflate to 400 KiB each": (
        metadata(b"zTXt", b"name\0\0" + zlib.compress(bytes(400 << 10)), 1000),
        "too much metadata",
    ),
    "1 MB of EXIF": (metadata(b"eXIf", bytes(1_000_000)), "too much metadata"),
    "10,000 chunks": (metadata(b"tEXt", b"a\0b", 10_000), "too many chunks"),
    "1,100 segments": (lambda: JPEG[:2] + b"\xff\xfe\x00\x02" * 1100 + JPEG[2:], "too many segments"),
    "101 scans": (lambda: scans(101), "too many scans"),
}


def scans(count: int) -> bytes:
    first, end = PROGRESSIVE.index(b"\xff\xda"), PROGRESSIVE.index(b"\xff\xc4", PROGRESSIVE.index(b"\xff\xda"))
    return PROGRESSIVE[:first] + PROGRESSIVE[first:end] * count + b"\xff\xd9"


@pytest.mark.parametrize("what", HEAVY)
def test_a_file_that_would_cost_much_is_refused_for_little_memory(what: str) -> None:
    make, says = HEAVY[what]
    raw = make()
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableImage, match=says):
            read(raw)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 2 * len(raw) + (4 << 20)


def test_a_large_image_may_have_fewer_scans() -> None:
    first = PROGRESSIVE.index(b"\xff\xc2")
    large = PROGRESSIVE.replace(
        PROGRESSIVE[first : first + 9], b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", 4000, 4000)
    )
    end = large.index(b"\xff\xc4", large.index(b"\xff\xda"))
    scan = large[large.index(b"\xff\xda") : end]
    with pytest.raises(UnreadableImage, match=r"too many scans \(limit 31 for its size\)"):
        read(large[:end] + scan * 31 + b"\xff\xd9")


def test_arithmetic_coded_and_deep_jpegs_are_no_format_of_ours() -> None:
    with pytest.raises(UnreadableImage, match="expected a baseline or progressive JPEG"):
        read(JPEG.replace(b"\xff\xc0", b"\xff\xc9", 1))
    with pytest.raises(UnreadableImage, match="8 bits a sample, found 12"):
        read(JPEG.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c", 1))


def test_what_a_camera_appends_to_a_jpeg_changes_nothing() -> None:
    """Previews, films and second pictures follow the end of real photos."""
    expected = read(JPEG)
    for appended in (JPEG, b"PK\3\4", bytes(5_000_000), b"\0\0\0\x18ftypmp42"):
        assert np.array_equal(read(JPEG + appended), expected)


def test_a_little_padding_behind_a_png_changes_nothing() -> None:
    assert np.array_equal(read(PNG + b"\0" * 60 + b"\r\n"), read(PNG))
    with pytest.raises(UnreadableImage, match="expected nothing behind its end, found 65 bytes"):
        read(PNG + bytes(65))


def test_metadata_changes_no_pixel() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("PNG", "JPEG"):
        bare = encoded(noise(), kind)
        laden = encoded(noise(), kind, exif=exif, icc_profile=bytes(1000), dpi=(300, 300), comment=b"text")
        assert len(laden) > len(bare)
        assert np.array_equal(read(laden), read(bare))


@pytest.mark.parametrize("raw", [PNG, JPEG, PROGRESSIVE], ids=["PNG", "JPEG", "progressive"])
def test_a_damaged_photo_is_read_or_refused_in_a_sentence_of_ours(raw: bytes) -> None:
    chance, said = np.random.default_rng(0), set[str]()
    for _ in range(300):
        damaged = bytearray(raw)
        for place in chance.integers(0, len(raw), 3):
            damaged[place] = chance.integers(0, 256)
        try:
            read(bytes(damaged))
        except BadInput as error:
            said.add(str(error))
    assert said
    assert [sentence for sentence in said if "object at" in sentence or len(sentence) > 150] == []


def test_pillow_agrees_with_what_is_left_of_a_photo() -> None:
    whole = np.asarray(Image.open(io.BytesIO(PNG)), np.float32)
    assert np.array_equal(read(PNG, size=32)[0].transpose(1, 2, 0), whole)
