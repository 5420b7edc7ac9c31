import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from headrace_models.errors import BadInput, BadSpec
from headrace_models.preprocess import Preprocessor, load
from headrace_models.spec import CharactersSpec, ImageSpec, TextSpec


def _image_spec(**changes: Any) -> ImageSpec:
    values: dict[str, Any] = {"kind": "image", "output": "x", "size": 8, "crop": 1.0, "mean": 127.0, "scale": 128.0}
    return ImageSpec(**(values | changes))


def _encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


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
    pixels = _pixels(_encoded(Image.new("RGB", (20, 10), (255, 127, 0))))
    assert [pixels[channel].mean() for channel in range(3)] == pytest.approx([255, 127, 0], abs=1e-4)


def test_the_middle_of_a_photo_is_what_counts() -> None:
    photo = Image.new("RGB", (40, 16), "red")
    photo.paste("blue", (12, 0, 28, 16))
    assert _pixels(_encoded(photo)).mean((1, 2)) == pytest.approx([0, 0, 255], abs=1e-4)


def test_a_grey_a_palette_and_a_sixteen_bit_photo_are_read_alike() -> None:
    grey = Image.new("L", (8, 8), 100)
    deep = Image.fromarray(np.full((8, 8), 100 * 257, np.uint16))
    see_through = grey.convert("RGB").quantize(4)
    see_through.info["transparency"] = b"\x80\x80"
    for photo in (grey, grey.convert("P"), deep, grey.convert("RGBA"), grey.convert("LA"), see_through):
        assert _pixels(_encoded(photo)) == pytest.approx(np.full((3, 8, 8), 100), abs=1), photo.mode


def test_a_cmyk_jpeg_is_read() -> None:
    assert _pixels(_encoded(Image.new("CMYK", (8, 8)), "JPEG")).mean() == pytest.approx(255, abs=2)


def test_the_orientation_tag_is_ignored() -> None:
    photo = _gradient(32, 32)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(_pixels(_encoded(photo, "JPEG")), _pixels(_encoded(photo, "JPEG", exif=exif)))


def test_a_large_jpeg_gives_what_its_pixels_give() -> None:
    raw = _encoded(_gradient(1600, 1200), "JPEG", quality=95)
    whole = _encoded(Image.open(io.BytesIO(raw)).convert("RGB"))
    difference = np.abs(_pixels(raw, size=64, crop=0.875) - _pixels(whole, size=64, crop=0.875))
    assert difference.max() <= 3
    assert difference.mean() <= 1


def test_a_photo_of_too_many_pixels_is_refused_from_its_header() -> None:
    header_only = _encoded(Image.new("L", (3000, 3000)))[:64]
    with pytest.raises(BadInput, match="3000x3000 pixels, more than the 1000000 allowed"):
        load(_image_spec(max_pixels=1_000_000), Path())(header_only)


def test_a_photo_too_large_even_for_the_decoder_is_refused() -> None:
    header = bytearray(_encoded(Image.new("L", (8, 8))))
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(BadInput):
        load(_image_spec(), Path())(bytes(header))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.5, 0.9])
def test_a_truncated_photo_is_refused(kind: str, share: float) -> None:
    raw = _encoded(_gradient(200, 200), kind)
    with pytest.raises(BadInput, match=r"^the photo is not a readable JPEG or PNG$"):
        load(_image_spec(), Path())(raw[: int(len(raw) * share)])


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP"])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(BadInput, match="not a readable JPEG or PNG"):
        load(_image_spec(), Path())(_encoded(_gradient(8, 8), kind))


def test_a_photo_of_one_pixel_is_read() -> None:
    assert _pixels(_encoded(Image.new("RGB", (1, 1), "white")), crop=0.5).min() == pytest.approx(255, abs=1e-4)


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
        (b"caf\xe9", "not valid UTF-8"),
        ("é".encode() * 11, "11 characters, more than the 10 allowed"),
        (b"x" * 41, "41 bytes, too many for the 10 characters allowed"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused(text: Callable[..., Preprocessor], raw: bytes, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        text(max_chars=10)(raw)


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
        (b"aaaaa", "5 characters, more than the 4 allowed"),
        # One character that becomes two when lower-cased.
        ("aaaİ".encode(), "5 characters, more than the 4 allowed"),
        (b"\xff", "not valid UTF-8"),
    ],
)
def test_characters_that_do_not_fit_are_refused(characters: Preprocessor, raw: bytes, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        characters(raw)
