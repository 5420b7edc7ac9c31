import io
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tests.models.image_files import chunk, encoded, header, png
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from headrace_models.errors import BadInput, BadSpec
from headrace_models.preprocess import Preprocessor, load
from headrace_models.spec import CharactersSpec, ImageSpec, TextSpec


def _image_spec(**changes: Any) -> ImageSpec:
    values: dict[str, Any] = {"kind": "image", "output": "x", "size": 8, "crop": 1.0, "mean": 127.0, "scale": 128.0}
    return ImageSpec(**(values | changes))


def _gradient(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    channels = (x * 255 / width, y * 255 / height, 255 - x * 255 / width)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def _pixels(raw: bytes, **changes: Any) -> npt.NDArray[np.float32]:
    """What the network gets, as values 0..255: [3, size, size]."""
    spec = _image_spec(**changes)
    tensor = load(spec, Path())(raw)["x"]
    assert tensor.dtype == np.float32
    assert tensor.shape == (1, 3, spec.size, spec.size)
    assert tensor.flags.c_contiguous
    pixels: npt.NDArray[np.float32] = tensor[0] * spec.scale + spec.mean
    return pixels


def test_a_photo_becomes_channels_of_scaled_values() -> None:
    pixels = _pixels(encoded(Image.new("RGB", (20, 10), (255, 127, 0))))
    assert [pixels[channel].mean() for channel in range(3)] == pytest.approx([255, 127, 0], abs=1e-4)


def test_the_middle_of_a_photo_is_what_counts() -> None:
    photo = Image.new("RGB", (40, 16), "red")
    photo.paste("blue", (12, 0, 28, 16))
    assert _pixels(encoded(photo)).mean((1, 2)) == pytest.approx([0, 0, 255], abs=1e-4)


def _deep_rgb() -> bytes:
    """A PNG of 16 bits a sample, which Pillow reads but does not write: every pixel 0xC8FF, 0x6400, 0x0A80."""
    rows = (b"\0" + bytes.fromhex("c8ff64000a80") * 8) * 8
    return png(header(8, 8, depth=16, colour=2), chunk(b"IDAT", zlib.compress(rows)))


def _palette(transparency: bytes | int | None) -> bytes:
    photo = Image.new("P", (8, 8), 1)
    photo.putpalette([0, 0, 0, 200, 100, 10])
    return encoded(photo) if transparency is None else encoded(photo, transparency=transparency)


CMYK = (40, 90, 160, 20)
DEFINED: dict[str, tuple[bytes, tuple[int, int, int], int]] = {
    "colour": (encoded(Image.new("RGB", (8, 8), (200, 100, 10))), (200, 100, 10), 0),
    "grey": (encoded(Image.new("L", (8, 8), 77)), (77, 77, 77), 0),
    "one bit": (encoded(Image.new("1", (8, 8), 1)), (255, 255, 255), 0),
    "16 bits of grey keep their upper eight": (
        encoded(Image.fromarray(np.full((8, 8), 0x4DFF, np.uint16))),
        (77, 77, 77),
        0,
    ),
    "16 bits of colour keep their upper eight": (_deep_rgb(), (200, 100, 10), 0),
    "a palette's colours": (_palette(None), (200, 100, 10), 0),
    "a transparent palette's colours": (_palette(b"\xff\x80"), (200, 100, 10), 0),
    "a palette with one colour left out": (_palette(1), (200, 100, 10), 0),
    "colours under transparency": (encoded(Image.new("RGBA", (8, 8), (200, 100, 10, 0))), (200, 100, 10), 0),
    "greys under transparency": (encoded(Image.new("LA", (8, 8), (77, 0))), (77, 77, 77), 0),
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


def test_the_orientation_tag_is_ignored() -> None:
    photo = _gradient(32, 32)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(_pixels(encoded(photo, "JPEG")), _pixels(encoded(photo, "JPEG", exif=exif)))


def test_a_large_jpeg_gives_what_its_pixels_give() -> None:
    raw = encoded(_gradient(1600, 1200), "JPEG", quality=95)
    whole = encoded(Image.open(io.BytesIO(raw)).convert("RGB"))
    difference = np.abs(_pixels(raw, size=64, crop=0.875) - _pixels(whole, size=64, crop=0.875))
    assert difference.max() <= 3
    assert difference.mean() <= 1


def test_a_photo_of_one_pixel_is_read() -> None:
    assert _pixels(encoded(Image.new("RGB", (1, 1), "white")), crop=0.5).min() == pytest.approx(255, abs=1e-4)


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


def test_a_text_becomes_ids_and_their_mask_without_padding(text: Callable[..., Preprocessor]) -> None:
    tensors = text()(b"one two three")
    assert {name: values.tolist() for name, values in tensors.items()} == {
        "input_ids": [[1, 3, 4, 0, 2]],
        "attention_mask": [[1, 1, 1, 1, 1]],
    }
    assert {values.dtype for values in tensors.values()} == {np.dtype(np.int64)}


def test_a_long_text_is_cut_but_keeps_its_end_mark(text: Callable[..., Preprocessor]) -> None:
    assert text(max_tokens=4)(b"one " * 50)["input_ids"].tolist() == [[1, 3, 3, 2]]


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
def test_a_text_that_cannot_be_read_is_refused(text: Callable[..., Preprocessor], raw: bytes, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        text(max_chars=len(raw) if "UTF" in complaint else 10)(raw)


def test_a_text_may_have_as_many_characters_as_the_limit_says_and_no_more(text: Callable[..., Preprocessor]) -> None:
    prepare = text()
    assert prepare("é".encode() * 32_000)["input_ids"].shape[1] > 0
    with pytest.raises(BadInput, match=r"text too long \(limit 32000 characters\): found 32001"):
        prepare("é".encode() * 32_001)


def test_odd_characters_are_data(text: Callable[..., Preprocessor]) -> None:
    for odd in ("a\0b", "\u202eone", "one\u200d", "\U0001f469\u200d\U0001f467", "a" + "\u0301" * 1000):
        assert text()(odd.encode())["input_ids"].shape[1] >= 3


def test_texts_read_at_once_do_not_disturb_each_other(text: Callable[..., Preprocessor]) -> None:
    prepare = text(max_tokens=32)
    counts = [1 + number % 20 for number in range(200)]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda count: prepare(b"one " * count)["input_ids"].shape[1], counts))
    assert results == [count + 2 for count in counts]


def test_a_broken_tokenizer_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BadSpec, match=r"tokenizer\.json: expected a tokenizer"):
        load(TextSpec(kind="text", tokenizer="tokenizer.json", max_tokens=8), tmp_path)


@pytest.fixture
def characters() -> Preprocessor:
    return load(CharactersSpec(kind="characters", output="ids", alphabet="-.ab", max_chars=4, unknown=0), Path())


def test_characters_become_their_places_in_the_alphabet(characters: Preprocessor) -> None:
    ids = characters(b"aB.?")["ids"]
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
def test_characters_that_do_not_fit_are_refused(characters: Preprocessor, raw: bytes, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        characters(raw)
