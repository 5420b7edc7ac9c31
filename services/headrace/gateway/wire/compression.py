"""Compresses and decompresses infer bodies: gzip and zlib's deflate, each as one stream."""

import zlib

from headrace.errors import BadEncoding, DecompressedTooLarge, UnsupportedEncoding

__all__ = ["check_encoding", "deflate", "inflate", "wanted_encoding"]

# zlib's window sizes: 31 reads and writes gzip, 15 zlib, which HTTP calls "deflate" (RFC 9110,
# 8.4.1.2).
_WINDOWS = {"gzip": 31, "deflate": 15}
_ENCODINGS = ("gzip", "deflate", "identity")
# A body may inflate to this many times its size, and to so many bytes in any case.
_MAX_RATIO = 100
_FREE_BYTES = 1 << 20
_STEP_BYTES = 1 << 20
_LEVEL = 1


def inflate(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The original body. Raises BadEncoding unless it is one stream, or DecompressedTooLarge."""
    limit_bytes = min(limit_bytes, max(_FREE_BYTES, _MAX_RATIO * len(body)))
    stream = zlib.decompressobj(_WINDOWS[encoding])
    parts: list[bytes] = []
    size = 0
    rest = body
    try:
        while not stream.eof and (rest or not parts):
            parts.append(stream.decompress(rest, _STEP_BYTES))
            rest = stream.unconsumed_tail
            size += len(parts[-1])
            if size > limit_bytes:
                raise DecompressedTooLarge(
                    f"body: expected at most {limit_bytes} bytes after decompression, found more"
                )
            if not parts[-1] and not rest:
                break
    except zlib.error:
        raise BadEncoding(f"body: expected {encoding}, as Content-Encoding says") from None
    if not stream.eof or stream.unused_data:
        raise BadEncoding(f"body: expected one complete {encoding} stream and nothing after it")
    return b"".join(parts)


def check_encoding(encoding: str) -> None:
    """Raise UnsupportedEncoding unless bodies of this encoding are read here."""
    if encoding not in _ENCODINGS:
        raise UnsupportedEncoding(f"Content-Encoding: expected one of {', '.join(_ENCODINGS)}")


def wanted_encoding(accept: str | None) -> str | None:
    """The encoding of the answer, if a caller names exactly one.

    HTTP libraries send lists of several by themselves: to follow those would cost more time than it
    saves.
    """
    return accept if accept in _WINDOWS else None


def deflate(body: bytes, encoding: str) -> bytes:
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOWS[encoding])
    return stream.compress(body) + stream.flush()
