"""Compressed bodies of infer requests and answers: gzip and zlib's deflate, each as one stream."""

import zlib

from headrace.errors import BadEncoding, DecompressedTooLarge, UnsupportedEncoding

__all__ = ["ENCODINGS", "check_encoding", "deflate", "inflate", "wanted_encoding"]

# zlib's window sizes: 31 reads and writes gzip, 15 zlib. HTTP's "deflate" is zlib (RFC 9110, 8.4.1.2).
_WINDOWS = {"gzip": 31, "deflate": 15}
ENCODINGS = ("gzip", "deflate", "identity")
# Beyond the first of them a body may inflate to so many times its size, and no more.
_FREE_BYTES, _MAX_RATIO = 1 << 20, 100
_STEP_BYTES = 1 << 20
_LEVEL = 1


def inflate(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The body as it was. Raises BadEncoding for what is not one whole stream, DecompressedTooLarge while inflating."""
    limit_bytes = min(limit_bytes, max(_FREE_BYTES, _MAX_RATIO * len(body)))
    stream = zlib.decompressobj(_WINDOWS[encoding])
    parts: list[bytes] = []
    size, rest = 0, body
    try:
        while not stream.eof and (rest or not parts):
            parts.append(stream.decompress(rest, _STEP_BYTES))
            rest = stream.unconsumed_tail
            size += len(parts[-1])
            if size > limit_bytes:
                raise DecompressedTooLarge(
                    f"body: expected at most {limit_bytes} bytes behind {encoding}, found more"
                )
            if not parts[-1] and not rest:
                break
    except zlib.error:
        raise BadEncoding(f"body: expected {encoding}, as Content-Encoding says") from None
    if not stream.eof or stream.unused_data:
        raise BadEncoding(f"body: expected one whole {encoding} stream and nothing behind it")
    return b"".join(parts)


def check_encoding(encoding: str) -> None:
    """Raises UnsupportedEncoding for what is not read here."""
    if encoding not in ENCODINGS:
        raise UnsupportedEncoding(f"Content-Encoding: expected one of {', '.join(ENCODINGS)}")


def wanted_encoding(accept: str | None) -> str | None:
    """The encoding that an answer is wanted in, where a caller says one and nothing else.

    Lists of several are what HTTP libraries send by themselves: to follow them would cost more time than it saves.
    """
    return accept if accept in _WINDOWS else None


def deflate(body: bytes, encoding: str) -> bytes:
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOWS[encoding])
    return stream.compress(body) + stream.flush()
