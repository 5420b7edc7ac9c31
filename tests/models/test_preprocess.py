import io
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps
from tests.models.image_files import chunk, encoded, header, oriented, png
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from headrace_models.errors import BadInput, BadSpec
from headrace_models.preprocess import Preprocessor, load
from headrace_models.spec import CharactersSpec, ImageSpec, TextSpec


def _image_spec(**changes: Any) -> ImageSpec:
    values: dict[str, Any] = {
        "kind": "image",
        "output": "x",
        "size": 8,
        "crop": 1.0,
        "mean": 127.0,
        "scale": 128.0,
    }
    return ImageSpec(**(values | changes))


def _gradient(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    channels = (x * 255 / width, y * 255 / height, 255 - x * 255 / width)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def _pixels(raw: bytes, **changes: Any) -> npt.NDArray[np.float32]:
    """The network's input as values 0..255: [3, size, size]."""
    spec = _image_spec(**changes)
    tensor = load(spec, Path())(raw).tensors["x"]
    assert tensor.dtype == np.float32
    assert tensor.shape == (1, 3, spec.size, spec.size)
    assert tensor.flags.c_contiguous
    pixels: npt.NDArray[np.float32] = tensor[0] * spec.scale + spec.mean
    return pixels


def test_a_photo_becomes_channels_of_scaled_values() -> None:
    pixels = _pixels(encoded(Image.new("RGB", (20, 10), (255, 127, 0))))
    assert [pixels[channel].mean() for channel in range(3)] == pytest.approx(
        [255, 127, 0], abs=1e-4
    )


def test_the_middle_of_a_photo_is_what_counts() -> None:
    photo = Image.new("RGB", (40, 16), "red")
    photo.paste("blue", (12, 0, 28, 16))
    assert _pixels(encoded(photo)).mean((1, 2)) == pytest.approx([0, 0, 255], abs=1e-4)


def _deep(colour: int, pixel: str) -> bytes:
    """A PNG of 8 x 8 pixels, 16 bits a sample, which Pillow reads but does not write."""
    return png(header(8, 8, depth=16, colour=colour), _rows(pixel))


def _keyed(depth: int, colour: int, pixels: str, transparent: str) -> bytes:
    """A PNG with one transparent colour; its rows are these pixels, as often as it takes."""
    key = chunk(b"tRNS", bytes.fromhex(transparent))
    return png(
        header(8, 8, depth=depth, colour=colour),
        key,
        _rows(pixels, depth * (3 if colour == 2 else 1)),
    )


def _rows(pixels: str, bits: int = 0) -> bytes:
    """Eight rows of eight pixels of so many bits; of the one that is given, if 0."""
    row = bytes.fromhex(pixels) * 8
    return chunk(b"IDAT", zlib.compress((b"\0" + row[: bits or len(row)]) * 8))


def _palette(transparency: bytes | int | None) -> bytes:
    photo = Image.new("P", (8, 8), 1)
    photo.putpalette([0, 0, 0, 200, 100, 10])
    return encoded(photo) if transparency is None else encoded(photo, transparency=transparency)


CMYK = (40, 90, 160, 20)
WHITE = (255, 255, 255)
HALF = Image.new("RGBA", (8, 8), (200, 100, 10, 128))
HALF_ON_WHITE = (227, 177, 132)
DEFINED: dict[str, tuple[bytes, tuple[int, int, int], int]] = {
    "colour": (encoded(Image.new("RGB", (8, 8), (200, 100, 10))), (200, 100, 10), 0),
    "grey": (encoded(Image.new("L", (8, 8), 77)), (77, 77, 77), 0),
    "one bit": (encoded(Image.new("1", (8, 8), 1)), (255, 255, 255), 0),
    "16 bits of grey keep their upper eight": (
        encoded(Image.fromarray(np.full((8, 8), 0x4DFF, np.uint16))),
        (77, 77, 77),
        0,
    ),
    "16 bits of colour keep their upper eight": (_deep(2, "c8ff 64ff 0aff"), (200, 100, 10), 0),
    "a palette's colours": (_palette(None), (200, 100, 10), 0),
    "a palette's colour, half of it on white": (_palette(b"\xff\x80"), HALF_ON_WHITE, 0),
    "a palette with one colour left out": (_palette(1), WHITE, 0),
    "a palette with another colour left out": (_palette(0), (200, 100, 10), 0),
    "nothing but transparency": (encoded(Image.new("RGBA", (8, 8), (200, 100, 10, 0))), WHITE, 0),
    "colours, half of them on white": (
        encoded(Image.new("RGBA", (8, 8), (200, 100, 10, 128))),
        HALF_ON_WHITE,
        0,
    ),
    "greys, half of them on white": (
        encoded(Image.new("LA", (8, 8), (77, 128))),
        (166, 166, 166),
        0,
    ),
    "16 bits of colour and transparency": (_deep(6, "c8ff 64ff 0aff 80ff"), HALF_ON_WHITE, 0),
    "16 bits of grey and transparency": (_deep(4, "4dff 80ff"), (166, 166, 166), 0),
    "one transparent colour": (_keyed(8, 2, "c8640a", "00c8 0064 000a"), WHITE, 0),
    "one other transparent colour": (_keyed(8, 2, "c8640a", "00c8 0064 000b"), (200, 100, 10), 0),
    "one transparent colour of 16 bits": (
        _keyed(16, 2, "c801 6402 0a03", "c801 6402 0a03"),
        WHITE,
        0,
    ),
    "one other transparent colour of 16 bits": (
        _keyed(16, 2, "c801 6402 0a03", "c801 6402 0b03"),
        (200, 100, 10),
        0,
    ),
    "black that is transparent": (_keyed(1, 0, "00", "0000"), WHITE, 0),
    "black that is not transparent": (_keyed(1, 0, "00", "0001"), (0, 0, 0), 0),
    "one transparent grey of 2 bits": (_keyed(2, 0, "aaaa", "0002"), WHITE, 0),
    "one other transparent grey of 2 bits": (_keyed(2, 0, "aaaa", "0001"), (170, 170, 170), 0),
    "one transparent grey of 4 bits": (_keyed(4, 0, "99999999", "0009"), WHITE, 0),
    "one transparent grey of 16 bits": (_keyed(16, 0, "4d01", "4d01"), WHITE, 0),
    "a transparent colour that is none": (_keyed(8, 2, "c8640a", "00c8"), (200, 100, 10), 0),
    "a WebP": (
        encoded(Image.new("RGB", (8, 8), (200, 100, 10)), "WEBP", lossless=True),
        (200, 100, 10),
        0,
    ),
    "a WebP, half of it on white": (encoded(HALF, "WEBP", lossless=True), HALF_ON_WHITE, 0),
    "a lossy WebP, half of it on white": (encoded(HALF, "WEBP", quality=100), HALF_ON_WHITE, 2),
    "a grey JPEG": (encoded(Image.new("L", (8, 8), 77), "JPEG", quality=100), (77, 77, 77), 1),
    "a CMYK JPEG": (
        encoded(Image.new("CMYK", (8, 8), CMYK), "JPEG", quality=100),
        (198, 152, 87),  # (255 - ink) * (255 - black) / 255
        2,
    ),
    "one pixel": (encoded(Image.new("RGB", (1, 1), (200, 100, 10))), (200, 100, 10), 0),
}


@pytest.mark.parametrize("what", DEFINED)
def test_every_kind_of_photo_has_its_defined_colours(what: str) -> None:
    raw, colour, off_by = DEFINED[what]
    expected = np.broadcast_to(np.array(colour, np.float32)[:, None, None], (3, 8, 8))
    assert np.abs(_pixels(raw) - expected).max() <= off_by + 1e-4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(50, 33), (33, 50), (41, 40)], ids=str)
def test_a_photo_is_seen_as_its_camera_was_held(orientation: int, size: tuple[int, int]) -> None:
    photo = _gradient(*size)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 95})):
        raw = encoded(photo, kind, exif=oriented(orientation), **options)
        turned = encoded(ImageOps.exif_transpose(Image.open(io.BytesIO(raw))).convert("RGB"))
        assert np.array_equal(_pixels(raw, crop=0.7), _pixels(turned, crop=0.7)), kind


def test_a_drawing_of_black_on_nothing_is_seen_on_white() -> None:
    drawing = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    drawing.paste((0, 0, 0, 255), (0, 0, 8, 16))
    pixels = _pixels(encoded(drawing))
    assert (pixels[:, :, 0].max(), pixels[:, :, -1].min()) == (0, 255)


def test_a_large_jpeg_gives_what_its_pixels_give() -> None:
    raw = encoded(_gradient(1600, 1200), "JPEG", quality=95)
    whole = encoded(Image.open(io.BytesIO(raw)).convert("RGB"))
    difference = np.abs(_pixels(raw, size=64, crop=0.875) - _pixels(whole, size=64, crop=0.875))
    assert difference.max() <= 3
    assert difference.mean() <= 1


def test_a_photo_of_one_pixel_is_read() -> None:
    assert _pixels(encoded(Image.new("RGB", (1, 1), "white")), crop=0.5).min() == pytest.approx(
        255, abs=1e-4
    )


@pytest.fixture
def text(tmp_path: Path) -> Callable[..., Preprocessor]:
    """A preprocessor that knows five words."""
    words = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "one": 3, "two": 4}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.enable_padding(length=32)
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    def make(**changes: Any) -> Preprocessor:
        values: dict[str, Any] = {"kind": "text", "tokenizer": "tokenizer.json", "max_tokens": 8}
        return load(TextSpec(**(values | changes)), tmp_path)

    return make


def test_a_text_becomes_ids_and_their_mask_without_padding(
    text: Callable[..., Preprocessor],
) -> None:
    tensors = text()(b"one two three").tensors
    assert {name: values.tolist() for name, values in tensors.items()} == {
        "input_ids": [[1, 3, 4, 0, 2]],
        "attention_mask": [[1, 1, 1, 1, 1]],
    }
    assert {values.dtype for values in tensors.values()} == {np.dtype(np.int64)}


def test_a_long_text_is_cut_but_keeps_its_end_mark(text: Callable[..., Preprocessor]) -> None:
    prepared = text(max_tokens=4)(b"one " * 50)
    assert (prepared.tensors["input_ids"].tolist(), prepared.is_cut) == ([[1, 3, 3, 2]], True)


def test_a_text_that_just_fits_is_not_cut(text: Callable[..., Preprocessor]) -> None:
    assert not text(max_tokens=4)(b"one one").is_cut


def test_a_long_text_is_refused_where_the_spec_wants_it(text: Callable[..., Preprocessor]) -> None:
    strict = text(max_tokens=4, truncate="error")
    assert strict(b"one one").tensors["input_ids"].shape == (1, 4)
    with pytest.raises(BadInput, match=r"^text too long \(limit 4 tokens\): found 52$"):
        strict(b"one " * 50)


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "the text is empty"),
        (b" \n\t ", "the text is empty"),
        ("\u3000\xa0".encode(), "the text is empty"),
        (b"\0\1\x1b\x7f\xc2\x85", "the text is empty"),
        (b"caf\xe9", "not valid UTF-8"),
        (b"half a pair \xed\xa0\x80", "not valid UTF-8"),
        (b"overlong \xc0\xaf", "not valid UTF-8"),
        ("é".encode() * 11, r"text too long \(limit 10 characters\): found 11"),
        (b"x" * 41, r"text too long \(limit 10 characters\): found 41 bytes"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused(
    text: Callable[..., Preprocessor], raw: bytes, complaint: str
) -> None:
    with pytest.raises(BadInput, match=complaint):
        text(max_chars=len(raw) if "UTF" in complaint else 10)(raw)


def test_a_text_may_have_as_many_characters_as_the_limit_says_and_no_more(
    text: Callable[..., Preprocessor],
) -> None:
    prepare = text()
    assert prepare("é".encode() * 32_000).tensors["input_ids"].shape[1] > 0
    with pytest.raises(BadInput, match=r"text too long \(limit 32000 characters\): found 32001"):
        prepare("é".encode() * 32_001)


@pytest.mark.parametrize("truncate", ["end", "error"])
def test_texts_of_every_length_are_read_alike(
    text: Callable[..., Preprocessor], truncate: str
) -> None:
    prepare = text(max_tokens=4096, truncate=truncate)
    for words in (1, 498, 499, 500, 501, 2000):
        prepared = prepare(b"one " * words)
        assert prepared.tensors["input_ids"].tolist() == [[1, *[3] * words, 2]]
        assert prepared.tensors["attention_mask"].tolist() == [[1] * (words + 2)]
        assert not prepared.is_cut


def test_odd_characters_are_data(text: Callable[..., Preprocessor]) -> None:
    for odd in (
        "a\0b",
        "\u202eone",
        "one\u200d",
        "\U0001f469\u200d\U0001f467",
        "a" + "\u0301" * 1000,
    ):
        assert text()(odd.encode()).tensors["input_ids"].shape[1] >= 3


def test_texts_read_at_once_do_not_disturb_each_other(text: Callable[..., Preprocessor]) -> None:
    prepare = text(max_tokens=32)
    counts = [1 + number % 20 for number in range(200)]
    with ThreadPoolExecutor(4) as threads:
        results = list(
            threads.map(
                lambda count: prepare(b"one " * count).tensors["input_ids"].shape[1], counts
            )
        )
    assert results == [count + 2 for count in counts]


def test_a_broken_tokenizer_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BadSpec, match=r"tokenizer\.json: expected a tokenizer"):
        load(TextSpec(kind="text", tokenizer="tokenizer.json", max_tokens=8), tmp_path)


@pytest.fixture
def characters() -> Preprocessor:
    return load(
        CharactersSpec(kind="characters", output="ids", alphabet="-.ab", max_chars=4, unknown=0),
        Path(),
    )


def test_characters_become_their_places_in_the_alphabet(characters: Preprocessor) -> None:
    ids = characters(b"aB.?").tensors["ids"]
    assert (ids.tolist(), ids.dtype) == ([[2, 3, 1, 0]], np.dtype(np.int64))


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "the text is empty"),
        (b" ", "the text is empty"),
        (b"\0\1", "the text is empty"),
        (b"aaaaa", r"text too long \(limit 4 characters\): found 5"),
        # One character that becomes two when lower-cased.
        ("aaaİ".encode(), r"text too long \(limit 4 characters\): found 5"),
        (b"\xff", "not valid UTF-8"),
    ],
)
def test_characters_that_do_not_fit_are_refused(
    characters: Preprocessor, raw: bytes, complaint: str
) -> None:
    with pytest.raises(BadInput, match=complaint):
        characters(raw)
