"""A photo -> the square of floats that an image network takes."""

import math
from io import BytesIO

import numpy as np
import numpy.typing as npt

# The plugins by name: Image.open would import them at the first photo, in whichever thread it
# comes.
from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from headrace_models.errors import BadInput, UnreadableImage
from headrace_models.preprocess import Prepared, jpeg_file, png_file, webp_file
from headrace_models.preprocess.image_size import CORRUPT
from headrace_models.spec.preprocess import ImageSpec

__all__ = ["ImagePreprocessor"]

_FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
    )
)
# EXIF's orientation -> the transposition that puts the stored pixels upright; 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Orientations that store the left or upper side as the right or lower one. There the middle
# rounds to the other side.
_FROM_RIGHT, _FROM_BELOW = (2, 3, 7, 8), (3, 4, 6, 7)


class ImagePreprocessor:
    """JPEG, PNG or WebP bytes -> `output` FP32 [1, 3, size, size]; channels are red, green, blue.

    The photo is turned as its EXIF says, and lies on white where it is transparent. Colour profiles
    and gamma are ignored. Samples of 16 bits lose their lower eight; palettes, greys and CMYK
    become RGB.
    """

    def __init__(self, spec: ImageSpec) -> None:
        self._spec = spec

    def __call__(self, raw: bytes) -> Prepared:
        try:
            pixels = self._pixels(raw)
        except BadInput:
            raise
        except Exception:  # on a stranger's bytes a decoder raises anything
            raise UnreadableImage(CORRUPT) from None
        scaled = (pixels - np.float32(self._spec.mean)) / np.float32(self._spec.scale)
        return Prepared(
            {self._spec.output: np.ascontiguousarray(scaled.transpose(2, 0, 1)[np.newaxis])}
        )

    def _pixels(self, raw: bytes) -> npt.NDArray[np.float32]:
        """[size, size, 3], values in 0..255."""
        spec = self._spec
        image, orientation = _pixels_only(raw, spec.max_pixels)
        with Image.open(BytesIO(image), formats=_FORMATS) as photo:
            # A JPEG decodes at 1/2, 1/4 or 1/8 in a fraction of the time. At twice the wanted side
            # the bicubic filter gives the same as from the whole photo, to about a grey level.
            enough = math.ceil(2 * spec.size / spec.crop)
            photo.draft(None, (enough, enough))
            square = _in_colour(_centre_square(photo, spec.crop, orientation))
        if orientation in _TURNS:
            square = square.transpose(_TURNS[orientation])
        return np.asarray(
            square.resize((spec.size, spec.size), Image.Resampling.BICUBIC), np.float32
        )


def _pixels_only(raw: bytes, max_pixels: int) -> tuple[bytes, int]:
    """The image reduced to the parts that make its pixels, for the decoder; and its orientation.

    The orientation is 1 to 8; the size is checked.
    """
    if raw.startswith(png_file.SIGNATURE):
        return png_file.png_pixels(raw, max_pixels)
    if raw.startswith(jpeg_file.SIGNATURE):
        return jpeg_file.jpeg_pixels(raw, max_pixels)
    if webp_file.is_webp(raw):
        return webp_file.webp_pixels(raw, max_pixels)
    raise UnreadableImage("unsupported image format: expected JPEG, PNG or WebP")


def _centre_square(photo: Image.Image, share: float, orientation: int) -> Image.Image:
    """The square in the middle of the upright photo; its side is `share` of the shorter side."""
    side = max(1, int(min(photo.size) * share))
    left = (photo.width - side + (1 if orientation in _FROM_RIGHT else 0)) // 2
    top = (photo.height - side + (1 if orientation in _FROM_BELOW else 0)) // 2
    return photo.crop((left, top, left + side, top + side))


def _in_colour(photo: Image.Image) -> Image.Image:
    """The photo in RGB, transparent parts on white, as people and browsers see it."""
    if photo.mode.startswith("I;16"):
        photo = _of_8_bits(photo)
    if not photo.has_transparency_data:
        return photo.convert("RGB")
    seen = photo.convert("RGBA")
    paper = Image.new("RGBA", seen.size, "white")
    paper.paste(seen, mask=seen)
    return paper.convert("RGB")


def _of_8_bits(photo: Image.Image) -> Image.Image:
    """Greys of 16 bits; Pillow's own conversion would clip them at 255 instead of scaling them."""
    grey = Image.fromarray((np.asarray(photo) >> 8).astype(np.uint8))
    grey.info = photo.info
    return grey
