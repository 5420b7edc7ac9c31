"""Bytes of bad requests, from the plain data that the catalogue's YAML holds.

A node is a text (sent as UTF-8), bytes, a list of nodes (sent one after the other), or a mapping
that names a `builder` below and its arguments, of which some are nodes again.
"""

import base64
import gzip
import json
import random
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loadtests.support.bad_inputs import photos
from loadtests.support.bad_inputs.lossless_webp import code_tables

__all__ = ["Node", "build"]

Node = str | bytes | Sequence[Any] | Mapping[str, Any]

_JSON = "/v2/models/{}/infer"
# A right request of each model, which cases change in one place.
_NUMBERS = [
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "fp16",
    "fp32",
    "fp64",
]
_IDS = {"shape": [1, 3], "datatype": "INT64"}
_TYPED = [
    {"name": "bool", "shape": [1, 2], "datatype": "BOOL", "data": [True, False]},
    *(
        {"name": name, "shape": [1, 2], "datatype": name.upper(), "data": [1, 2]}
        for name in _NUMBERS
    ),
]
EXAMPLES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "dga-lstm": [{"name": "ids", **_IDS, "data": [1, 2, 3]}],
    "silero-vad": [{"name": "input", "shape": [1, 288], "datatype": "FP32", "data": [0.0] * 288}],
    "mail-spam": [
        {"name": "input_ids", **_IDS, "data": [101, 2023, 102]},
        {"name": "attention_mask", **_IDS, "data": [1, 1, 1]},
    ],
    "doubler": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}],
    "typed": _TYPED,
    "finite": _TYPED,
}


def build(node: Node) -> bytes:
    """The bytes that a node stands for."""
    if isinstance(node, bytes):
        return node
    if isinstance(node, str):
        return node.encode()
    if isinstance(node, Mapping):
        make: Callable[..., bytes] = _BUILDERS[node["builder"]]
        return make(**{name: value for name, value in node.items() if name != "builder"})
    return b"".join(map(build, node))


def repeat(of: Node, times: int) -> bytes:
    return build(of) * times


def hexadecimal(digits: str) -> bytes:
    return bytes.fromhex(digits)


def noise(count: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(count)


def cut(of: Node, keep: int) -> bytes:
    """The first `keep` bytes; all but the last ones if it is negative."""
    return build(of)[:keep]


def pad(of: Node, to: int) -> bytes:
    """With spaces behind it, `to` bytes in all."""
    return build(of).ljust(to)


def swap(of: Node, old: Node, new: Node) -> bytes:
    """With the first `old` replaced, which must be there."""
    request, removed = build(of), build(old)
    assert removed in request
    return request.replace(removed, build(new), 1)


def gzipped(of: Node) -> bytes:
    return gzip.compress(build(of), mtime=0)


def deflated(of: Node, *, is_raw: bool = False) -> bytes:
    """zlib's format, which HTTP calls deflate; if `is_raw`, the bare stream."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15 if is_raw else 15)
    return packer.compress(build(of)) + packer.flush()


def in_base64(of: Node) -> bytes:
    return base64.b64encode(build(of))


def chunked(of: Node, size: int) -> bytes:
    """In chunks of `size` bytes, with the last one and no trailer."""
    body = build(of)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def request(
    path: Node,
    method: str = "POST",
    headers: Sequence[Node] = (),
    body: Node = "",
    length: str = "right",
) -> bytes:
    """A request; `headers` are complete lines. `length` is the Content-Length, or "none"."""
    content = build(body)
    lines = [
        b"%b %b HTTP/1.1" % (method.encode(), build(path)),
        b"Host: localhost",
        *map(build, headers),
    ]
    if length != "none" and (content or method == "POST"):
        lines.append(
            b"Content-Length: " + (b"%d" % len(content) if length == "right" else length.encode())
        )
    return b"\r\n".join([*lines, b"", content])


def infer_body(model: str = "dga-lstm", **changes: Any) -> bytes:
    """The JSON of a right request with `_inputs`' changes; `top` and `raw_top` add fields."""
    top, raw_top = changes.pop("top", {}), changes.pop("raw_top", {})
    inputs = changes.pop("raw_inputs", None) or f"[{','.join(_inputs(model, **changes))}]"
    return _object(top, {"inputs": inputs, **raw_top}).encode()


def _inputs(
    model: str,
    which: str = "",
    tensor: Mapping[str, Any] | None = None,
    raw: Mapping[str, str] | None = None,
    without: Sequence[str] = (),
    more: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """The input called `which`, or else the first, with the fields of `tensor`, those of `raw` as
    JSON text, and not those of `without`; the model's other inputs as they are; and then `more`."""
    texts = []
    for n, example in enumerate(EXAMPLES[model]):
        is_changed = example["name"] == which if which else n == 0
        fields = {**example, **(tensor or {})} if is_changed else example
        dropped = {*without, *(raw or {})} if is_changed else set()
        texts.append(
            _object(
                {k: v for k, v in fields.items() if k not in dropped},
                (raw or {}) if is_changed else {},
            )
        )
    return [*texts, *(json.dumps(extra) for extra in more)]


def _object(fields: Mapping[str, Any], raw: Mapping[str, str]) -> str:
    texts = {name: json.dumps(value) for name, value in fields.items()} | dict(raw)
    return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in texts.items()) + "}"


def infer(
    model: str = "dga-lstm", headers: Sequence[Node] = (), path: str = "", **changes: Any
) -> bytes:
    """A complete infer request."""
    return request(path or _JSON.format(model), headers=headers, body=infer_body(model, **changes))


def binary(
    tail: Node,
    model: str = "dga-lstm",
    size: Any = None,
    header_length: str = "right",
    shift: int = 0,
    headers: Sequence[Node] = (),
    **changes: Any,
) -> bytes:
    """An infer request whose changed input is binary: `tail`, said to have `size` bytes, right if
    not given.

    `header_length` is what Inference-Header-Content-Length says, "none" for no such line, or right
    but for `shift`.
    """
    content = build(tail)
    parameters = {"binary_data_size": len(content) if size is None else size}
    changes["tensor"] = {"parameters": parameters, **changes.get("tensor", {})}
    changes["without"] = [
        *changes.get("without", []),
        *([] if "data" in changes["tensor"] else ["data"]),
    ]
    header = infer_body(model, **changes)
    said = str(len(header) + shift) if header_length == "right" else header_length
    lines = [] if said == "none" else [f"Inference-Header-Content-Length: {said}"]
    return request(_JSON.format(model), headers=[*lines, *headers], body=header + content)


def integers(values: Sequence[int], width: int = 8) -> bytes:
    """Little-endian, `width` bytes each."""
    return b"".join(value.to_bytes(width, "little", signed=value < 0) for value in values)


def floats(values: Sequence[float], times: int = 1) -> bytes:
    """Little-endian FP32."""
    return struct.pack(f"<{len(values)}f", *values) * times


def texts(values: Sequence[Node]) -> bytes:
    """BYTES elements: each behind its length."""
    return b"".join(struct.pack("<I", len(build(value))) + build(value) for value in values)


def classify(
    body: Node,
    model: str = "efficientnet-lite0",
    kind: Node = "image/png",
    headers: Sequence[Node] = (),
) -> bytes:
    return request(
        f"/v1/models/{model}:classify", headers=[["Content-Type: ", kind], *headers], body=body
    )


def multipart(
    parts: Sequence[Mapping[str, Any]], boundary: str = "cut", *, is_ended: bool = True
) -> bytes:
    """A multipart body; a part is its `headers`, complete lines, and its `body`."""
    written = []
    for part in parts:
        lines = [
            f"--{boundary}".encode(),
            *map(build, part.get("headers", [_FILE])),
            b"",
            build(part["body"]),
        ]
        written.append(b"\r\n".join(lines) + b"\r\n")
    return b"".join(written) + (f"--{boundary}--\r\n".encode() if is_ended else b"")


_FILE = 'Content-Disposition: form-data; name="file"; filename="a.png"'


def png(**wanted: Any) -> bytes:
    """A PNG of photos.png's arguments, of which some are nodes here."""
    built: dict[str, Any] = {
        n: build(v) if n in ("pixels", "extra", "after") else v for n, v in wanted.items()
    }
    return photos.png(**built)


def webp(chunks: Sequence[tuple[str, Node]], size: int | None = None) -> bytes:
    """A WebP of chunks, each its kind and a node."""
    return photos.webp([(kind, build(data)) for kind, data in chunks], size)


def scans(of: Node, times: int) -> bytes:
    """A progressive JPEG whose pixels are its first scan so many times."""
    return photos.scans(build(of), times)


_BUILDERS: Mapping[str, Callable[..., bytes]] = {
    "repeat": repeat,
    "hex": hexadecimal,
    "noise": noise,
    "cut": cut,
    "pad": pad,
    "swap": swap,
    "gzip": gzipped,
    "deflate": deflated,
    "base64": in_base64,
    "chunked": chunked,
    "json": as_json,
    "request": request,
    "infer_body": infer_body,
    "infer": infer,
    "binary": binary,
    "integers": integers,
    "floats": floats,
    "texts": texts,
    "classify": classify,
    "multipart": multipart,
    "png": png,
    "photo": photos.photo,
    "webp": webp,
    "scans": scans,
    "code_tables": code_tables,
}
