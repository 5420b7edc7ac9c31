"""Limits of an image's size, checked by its header before anything is decoded."""

from headrace_models.errors import OversizedImage, UnreadableImage

__all__ = ["CORRUPT", "check_size"]

CORRUPT = "the image is corrupt"

_MAX_SIDE = 8192
# A PNG of this size takes up to half a second of a shared core with the slowest filters.
_MAX_DECODED_BYTES = 48 << 20


def check_size(width: int, height: int, pixel_bytes: int, max_pixels: int) -> None:
    """Raises OversizedImage, or UnreadableImage for an empty image.

    `pixel_bytes` is the size of a pixel as the file stores it.
    """
    found = f"found {width}x{height}"
    if width <= 0 or height <= 0:
        raise UnreadableImage(f"{CORRUPT}: expected at least one pixel, {found}")
    if width * height > max_pixels:
        raise OversizedImage(f"image too large (limit {max_pixels / 1e6:g} megapixels): {found}")
    if max(width, height) > _MAX_SIDE:
        raise OversizedImage(f"image too large (limit {_MAX_SIDE} pixels a side): {found}")
    if width * height * pixel_bytes > _MAX_DECODED_BYTES:
        limit = f"limit {_MAX_DECODED_BYTES >> 20} MiB decoded"
        raise OversizedImage(f"image too large ({limit}): {found} of {pixel_bytes} bytes each")
