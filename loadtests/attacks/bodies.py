"""Requests made to hurt, each with the codes that must come back."""

import base64
import gzip
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import orjson
from loadtests.support.bad_inputs.photos import png

__all__ = ["Attack", "attacks"]

_MIB = 1 << 20
_LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
_INFER, _CLASSIFY, _TEXTS, _EMBED = (
    "/v2/models/efficientnet-lite0/infer",
    "/v1/models/efficientnet-lite0:classify",
    "/v1/models/dga-lstm:classify",
    "/v1/embeddings",
)
_BOMB_BYTES = 100 * _MIB


@dataclass(frozen=True)
class Attack:
    """Bytes to send on one connection; `codes` are the right answers, "" a 200."""

    name: str
    sent: bytes
    codes: tuple[str, ...]


def attacks() -> Iterator[Attack]:
    """Yield the attacks one by one, since each is large."""
    yield Attack(
        "a small request, for comparison", _post(_TEXTS, b'{"input":"wikipedia.org"}'), ("",)
    )
    yield Attack("256 KiB of pipelined GETs", _LIVE * (262_144 // len(_LIVE)), ("",))
    yield Attack("1,000,000 chunks of a byte", _chunks(1_000_000), ("too_many_chunks",))
    yield Attack(
        "gzip of 100 KiB to 100 MiB",
        _gzipped(gzip.compress(bytes(_BOMB_BYTES))),
        ("decompressed_too_large",),
    )
    yield Attack("gzip of 16 MiB to 64 MiB", _gzipped(_inflates_to_64_mib()), ("bad_json",))
    photo = png(width=10_000, height=8_900, depth=1, colour=0)
    yield Attack(
        "PNG of 10,000 x 8,900", _post(_CLASSIFY, photo, "image/png"), ("image_too_large",)
    )
    yield Attack(
        "PNG of 4,000 x 4,000", _post(_CLASSIFY, png(4000, 4000, 1, 0), "image/png"), ("",)
    )
    yield Attack(
        "6 MB of [],", _post(_INFER, b'{"inputs":[' + b"[]," * 2_000_000 + b"[]]}"), ("bad_json",)
    )
    yield Attack(
        "2.9 MB of [],",
        _post(_INFER, b'{"inputs":[' + b"[]," * 950_000 + b"[]]}"),
        ("bad_request",),
    )
    yield Attack("6 MB of [[[[", _post(_INFER, b'{"inputs":' + b"[" * 6_000_000), ("bad_json",))
    yield Attack("16 MB of quotes", _post(_INFER, b'{"inputs":' + b'"' * 16_000_000), ("bad_json",))
    yield Attack(
        "16 MB of backslashes",
        _post(_INFER, b'{"inputs":"' + b"\\" * 16_000_000 + b'"}'),
        ("bad_json",),
    )
    yield Attack("16 MiB of floats, ten photos", _post(_INFER, _ten_photos()), ("",))
    yield Attack(
        "16 MiB of floats, wrong",
        _post(_INFER, _floats([1, 3, 224, 224], 1_600_000)),
        ("bad_request",),
    )
    yield Attack(
        "16 MiB of one number",
        _post(_INFER, _tensor([1], b"0." + b"1" * 16_000_000)),
        ("bad_request",),
    )
    junk = base64.b64encode(_noise(6_000_000))
    yield Attack(
        "8 MB of base64", _post(_CLASSIFY, b'{"input":{"b64":"' + junk + b'"}}'), ("bad_image",)
    )
    yield Attack(
        "16 MB of base64",
        _post(_CLASSIFY, b'{"input":{"b64":"' + junk * 2 + b'"}}'),
        ("bad_image",),
    )
    yield Attack("16 MB of form", _form(bytes(16_000_000)), ("bad_image",))
    yield Attack(
        "8 MB of escaped text",
        _post(_TEXTS, b'{"input":["' + b"\\u00e9" * 1_300_000 + b'"]}'),
        ("bad_json",),
    )
    yield Attack(
        "64 KB of wrong things",
        _post(_TEXTS, b'{"input":[' + b"1," * 32_000 + b"1]}"),
        ("bad_request",),
    )
    yield Attack(
        "1.2 MB of wrong things",
        _post(_TEXTS, b'{"input":[' + b"1," * 590_000 + b"1]}"),
        ("bad_json",),
    )
    ids = [[101] * 290] * 1024
    yield Attack(
        "1,024 lists of token ids",
        _post(_EMBED, _json({"model": "minilm-l6", "input": ids})),
        ("bad_request",),
    )
    small = base64.b64encode(png()).decode()
    many = _json({"input": [{"b64": small}] * 64, "top_k": 1000})
    yield Attack("64 photos, 1,000 classes each", _post(_CLASSIFY, many), ("",))


def _json(document: Mapping[str, object]) -> bytes:
    return orjson.dumps(document)


def _post(path: str, body: bytes, kind: str = "application/json", *headers: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _chunks(count: int) -> bytes:
    return (
        f"POST {_INFER} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        + b"1\r\na\r\n" * count
    )


def _gzipped(body: bytes) -> bytes:
    return _post(_INFER, body, "application/json", "Content-Encoding: gzip")


def _inflates_to_64_mib() -> bytes:
    """White space that does not compress below a hundredth."""
    noise = _noise(60 * _MIB // 8)
    spaces = b"".join(b" \t\n\r    "[byte & 7 : (byte & 7) + 1] * 8 for byte in noise)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        file.write(b'{"inputs":' + spaces + b"[]}")
    return packed.getvalue()


def _noise(count: int) -> bytes:
    return np.random.default_rng(0).bytes(count)


def _tensor(shape: list[int], data: bytes) -> bytes:
    tensor = b'{"inputs":[{"name":"image","datatype":"FP32","shape":%b,"data":[%b]}]}'
    return tensor % (orjson.dumps(shape), data)


def _floats(shape: list[int], count: int) -> bytes:
    return _tensor(shape, b",".join([b"0.1234567"] * count))


def _ten_photos() -> bytes:
    return _floats([10, 3, 224, 224], 10 * 3 * 224 * 224)


def _form(content: bytes) -> bytes:
    head = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    return _post(
        _CLASSIFY, head + content + b"\r\n--cut--\r\n", "multipart/form-data; boundary=cut"
    )
