"""Which kinds of body each door reads: by Content-Type and Content-Encoding."""

from functools import lru_cache

from headrace.edge.exchange import Exchange
from headrace.errors import UnsupportedEncoding, UnsupportedMedia
from headrace.gateway.compression import check_encoding

__all__ = ["check_media"]

# "" is a body that does not say, as tritonclient's; the form type is what `curl -d` says when it is told nothing else.
_JSON = ("", "application/json", "application/x-www-form-urlencoded")
# tritonclient's asyncio client says octet-stream of whatever it sends.
_DOORS = {
    "infer": (*_JSON, "application/octet-stream"),
    "settings": (*_JSON, "application/octet-stream"),
    "classify": (*_JSON, "image/jpeg", "image/jpg", "image/png", "image/webp", "multipart/form-data"),
    "stream": ("", "application/octet-stream", "audio/pcm"),
}
_CHARSETS = ("utf-8", "us-ascii")


def check_media(door: str, exchange: Exchange) -> None:
    """Raise UnsupportedMedia or UnsupportedEncoding for a body that the door does not read."""
    headers = exchange.headers
    if refusal := _refusal(door, headers.get(b"content-type", b"")):
        raise UnsupportedMedia(refusal)
    encoding = headers.get(b"content-encoding")
    if encoding is None:
        return
    if door != "infer" and encoding.lower() != b"identity":
        raise UnsupportedEncoding("Content-Encoding: expected none; bodies of infer requests alone may be compressed")
    check_encoding(encoding.decode("latin-1").lower())


@lru_cache(maxsize=256)
def _refusal(door: str, content_type: bytes) -> str | None:
    kind, _, parameters = content_type.decode("latin-1").lower().partition(";")
    known = _DOORS.get(door, _JSON)
    if kind.strip() not in known:
        return f"Content-Type: expected one of {', '.join(known[1:])}"
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in _CHARSETS:
            return f"Content-Type: expected a charset of {' or '.join(_CHARSETS)}"
    return None
