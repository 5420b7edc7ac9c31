"""Which kinds of body each api reads: by Content-Type and Content-Encoding."""

from functools import lru_cache

from headrace.edge import changes
from headrace.edge.exchange import Exchange
from headrace.edge.kinds import refusal
from headrace.errors import UnsupportedEncoding, UnsupportedMedia
from headrace.gateway.api.classify import FORM_TYPE
from headrace.gateway.wire.audio_files import WAV_TYPES
from headrace.gateway.wire.compression import check_encoding
from headrace_models.spec import UPLOAD_TYPES

__all__ = ["check_media"]

# "" is a body that does not say, as tritonclient's; the form type is what `curl -d` says when it is told nothing else.
_JSON = ("", "application/json", "application/x-www-form-urlencoded")
# tritonclient's asyncio client says octet-stream of whatever it sends.
_APIS = {
    "infer": (*_JSON, "application/octet-stream"),
    "metadata": (*_JSON, "application/octet-stream"),
    "settings": changes.KINDS,
    "classify": (*_JSON, *UPLOAD_TYPES, FORM_TYPE),
    "stream": ("", "application/octet-stream", "audio/pcm", *WAV_TYPES),
}


def check_media(api: str, exchange: Exchange) -> None:
    """Raise UnsupportedMedia or UnsupportedEncoding for a body that the api does not read."""
    headers = exchange.headers
    if why := _refusal(api, headers.get(b"content-type", b"")):
        raise UnsupportedMedia(why)
    encoding = headers.get(b"content-encoding")
    if encoding is None:
        return
    if api != "infer" and encoding.lower() != b"identity":
        raise UnsupportedEncoding(
            "Content-Encoding: expected none; bodies of infer requests alone may be compressed"
        )
    check_encoding(encoding.decode("latin-1").lower())


@lru_cache(maxsize=256)
def _refusal(api: str, content_type: bytes) -> str | None:
    return refusal(content_type, _APIS.get(api, _JSON))
