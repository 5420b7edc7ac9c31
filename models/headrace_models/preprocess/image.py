"""A photo -> the square of floats that an image network takes."""

import math
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

# The plugins by name: Image.open would import them at the first photo, in whichever thread it comes.
from PIL import Image, JpegImagePlugin, PngImagePlugin

from headrace_models.errors import BadInput, UnreadableImage
from headrace_models.preprocess import jpeg_file, png_file
from headrace_models.preprocess.image_size import CORRUPT
from headrace_models.spec import ImageSpec

__all__ = ["ImagePreprocessor"]

_FORMATS = (JpegImagePlugin.JpegImageFile.format, PngImagePlugin.PngImageFile.format)


class ImagePreprocessor:
    """JPEG or PNG bytes -> `output` FP32 [1, 3, size, size], channels in the order red, green, blue.

    Pixels are read as the file stores them: orientation tags, colour profiles and gamma are ignored, and so is
    transparency. Samples of 16 bits lose their lower eight; palettes, greys and CMYK become RGB.
    """

    def __init__(self, spec: ImageSpec) -> None:
        self._spec = spec

    def __call__(self, raw: bytes) -> dict[str, npt.NDArray[Any]]:
        try:
            pixels = self._pixels(raw)
        except BadInput:
            raise
        except Exception:  # a decoder meeting a stranger's bytes raises whatever its parser hits
            raise UnreadableImage(CORRUPT) from None
        scaled = (pixels - np.float32(self._spec.mean)) / np.float32(self._spec.scale)
        return {self._spec.output: np.ascontiguousarray(scaled.transpose(2, 0, 1)[np.newaxis])}

    def _pixels(self, raw: bytes) -> npt.NDArray[np.float32]:
        """[size, size, 3], values in 0..255."""
        spec = self._spec
        with Image.open(BytesIO(_pixels_only(raw, spec.max_pixels)), formats=_FORMATS) as photo:
            # A JPEG decodes at 1/2, 1/4 or 1/8 for a fraction of the time. Twice the wanted side is left, from where
            # the bicubic filter gives what it would have given from the whole photo, to about a grey level.
            enough = math.ceil(2 * spec.size / spec.crop)
            photo.draft(None, (enough, enough))
            square = _in_colour(_centre_square(photo, spec.crop))
        return np.asarray(square.resize((spec.size, spec.size), Image.Resampling.BICUBIC), np.float32)


def _pixels_only(raw: bytes, max_pixels: int) -> bytes:
    """The image without all that makes no pixels, so that the decoder never meets it. Its size is checked."""
    if raw.startswith(png_file.SIGNATURE):
        return png_file.png_pixels(raw, max_pixels)
    if raw.startswith(jpeg_file.SIGNATURE):
        return jpeg_file.jpeg_pixels(raw, max_pixels)
    raise UnreadableImage("unsupported image format: expected JPEG or PNG")


def _centre_square(photo: Image.Image, share: float) -> Image.Image:
    """The square in the middle whose side is `share` of the photo's shorter side."""
    side = max(1, int(min(photo.size) * share))
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    return photo.crop((left, top, left + side, top + side))


def _in_colour(photo: Image.Image) -> Image.Image:
    if photo.mode.startswith("I;16"):
        # Pillow's own conversion would clip 16-bit greys at 255 instead of scaling them.
        return Image.fromarray((np.asarray(photo) >> 8).astype(np.uint8)).convert("RGB")
    if photo.mode == "P" and "transparency" in photo.info:
        return photo.convert("RGBA").convert("RGB")
    return photo.convert("RGB")
