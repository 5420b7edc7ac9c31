"""Checks that a request head has one meaning only, beyond what the parser checks (RFC 9112)."""

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from headrace.errors import (
    AmbiguousLength,
    BadFraming,
    BadHost,
    BadTarget,
    ExpectationFailed,
    UnknownProtocol,
)

__all__ = [
    "READ_HEADERS",
    "authority",
    "body_is_expected",
    "check_head",
    "declared_length",
    "expects_continue",
    "framing_of",
    "has_bad_escape",
    "split_target",
]

# Bytes beyond ASCII are refused in the headers that are read here, and ignored in others. A key and
# a request's id have patterns of their own.
READ_HEADERS = frozenset(
    b"accept-encoding connection content-encoding content-length content-type expect host "
    b"inference-header-content-length transfer-encoding upgrade x-request-timeout".split()
)
_FRAMING = (b"content-length", b"transfer-encoding")
_HOST = re.compile(
    rb"(?:[A-Za-z0-9._~!$&'()*+,;=-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?"
)
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_PORT = 65_535


def check_head(version: str, headers: Mapping[bytes, bytes]) -> None:
    """Check a head with lower-case header names, repeated ones joined. Raises HeadraceError."""
    if version not in ("1.1", "1.0"):
        raise UnknownProtocol("expected HTTP/1.1 or HTTP/1.0")
    host = headers.get(b"host")
    if host is None:
        if version == "1.1":
            raise BadHost("Host: expected one such header, found none")
    elif not _is_host(host):
        raise BadHost("Host: expected one name or address, with a port up to 65535 if any")
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        if version == "1.0":
            raise AmbiguousLength("Transfer-Encoding: expected none in HTTP/1.0")
        if coding.lower() != b"chunked":
            raise BadFraming("Transfer-Encoding: expected chunked alone")


@lru_cache(maxsize=1024)
def _is_host(host: bytes) -> bool:
    match = _HOST.fullmatch(host)
    return match is not None and int(match[1] or 0) <= _MAX_PORT


def body_is_expected(headers: Mapping[bytes, bytes]) -> bool:
    return b"transfer-encoding" in headers or declared_length(headers) > 0


def declared_length(headers: Mapping[bytes, bytes]) -> int:
    """Content-Length, which the parser has checked to be one number; 0 without it."""
    return int(headers.get(b"content-length", b"0"))


def framing_of(headers: Mapping[bytes, bytes], *, keep: bool) -> bytes:
    """A head that says only where its body ends, and whether a request may follow."""
    lines = [b"%b: %b\r\n" % (name, headers[name]) for name in _FRAMING if name in headers]
    close = b"" if keep else b"connection: close\r\n"
    return b"POST / HTTP/1.1\r\n%b%b\r\n" % (close, b"".join(lines))


def expects_continue(headers: Mapping[bytes, bytes]) -> bool:
    """True if the caller waits for a 100 before it sends its body. Raises ExpectationFailed."""
    expected = headers.get(b"expect")
    if expected is None:
        return False
    if expected.lower() != b"100-continue":
        raise ExpectationFailed("Expect: expected 100-continue")
    return True


def has_bad_escape(text: bytes) -> bool:
    """True if a % is not followed by two hexadecimal digits."""
    return _BAD_ESCAPE.search(text) is not None


def authority(target: bytes) -> bytes:
    """The `host:port` of an absolute target, or nothing."""
    match = _ABSOLUTE.match(target)
    return match[1] if match else b""


def split_target(method: str, target: bytes) -> tuple[str, ...]:
    """The path's segments, each percent-decoded by itself: an encoded slash divides nothing.

    Of an absolute target the path alone counts. Raises BadTarget for an invalid path.
    """
    if match := _ABSOLUTE.match(target):
        if not _is_host(match[1]):
            raise BadTarget(
                "target: expected one name or address behind http://, with a port if any"
            )
        target = target[match.end() :] or b"/"
    path = target.partition(b"?")[0]
    if path == b"*" and method == "OPTIONS":
        return ("", "*")
    is_path = path.startswith(b"/") and b"#" not in target and target.isascii()
    if not is_path or has_bad_escape(path):
        raise BadTarget(
            "target: expected a path of printable ASCII, with % before two hexadecimal digits only"
        )
    try:
        segments = tuple(unquote_to_bytes(segment).decode() for segment in path.split(b"/"))
    except UnicodeDecodeError:
        raise BadTarget("target: expected UTF-8 behind its % escapes") from None
    if any(_CONTROL.search(segment) for segment in segments):
        raise BadTarget("target: expected no control characters behind its % escapes")
    return segments
