"""Right requests of each endpoint in each form: the start of generated attacks."""

from collections.abc import Mapping

from loadtests.support.bad_inputs.builders import build

__all__ = ["PLAIN", "ZOO", "split"]

_PHOTO = {"builder": "png", "width": 4, "height": 4}
_INFER = "/v2/models/doubler/infer"
_DOUBLER = {"builder": "infer_body", "model": "doubler"}
_FLOATS = {"builder": "floats", "values": [1.0, 2.0, 3.0, 4.0]}
_GZIP = {"builder": "request", "path": _INFER, "headers": ["Content-Encoding: gzip"]}

# For the gateway before the doubler.
PLAIN: Mapping[str, bytes] = {
    "infer": build(
        {"builder": "infer", "model": "doubler", "top": {"id": "a", "outputs": [{"name": "y"}]}}
    ),
    "binary": build({"builder": "binary", "model": "doubler", "tail": _FLOATS}),
    "gzip": build({**_GZIP, "body": {"builder": "gzip", "of": _DOUBLER}}),
    "predict": build(
        {
            "builder": "request",
            "path": "/v1/models/doubler:predict",
            "body": '{"instances":[[1,2,3,4],[5,6,7,8]]}',
        }
    ),
}
# For the zoo.
ZOO: Mapping[str, bytes] = {
    "infer text": build(
        {
            "builder": "infer",
            "tensor": {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]},
        }
    ),
    "classify text": build(
        {
            "builder": "classify",
            "model": "dga-lstm",
            "kind": "application/json",
            "body": '{"input":["a.org"],"top_k":2}',
        }
    ),
    "classify photo": build({"builder": "classify", "body": _PHOTO}),
    "classify base64": build(
        {
            "builder": "classify",
            "kind": "application/json",
            "body": ['{"input":{"b64":"', {"builder": "base64", "of": _PHOTO}, '"}}'],
        }
    ),
    "classify form": build(
        {
            "builder": "classify",
            "kind": "multipart/form-data; boundary=cut",
            "body": {"builder": "multipart", "parts": [{"body": _PHOTO}]},
        }
    ),
    "stream": build(
        {
            "builder": "request",
            "path": "/v1/models/silero-vad:stream"
            "?sequence_id=golden&sequence_start=true&sequence_end=true",
            "headers": ["Content-Type: audio/pcm"],
            "body": {"builder": "noise", "count": 3000},
        }
    ),
    "embeddings": build(
        {
            "builder": "request",
            "path": "/v1/embeddings",
            "body": '{"model":"minilm-l6","input":["a","b"],"encoding_format":"float"}',
        }
    ),
}


def split(request: bytes) -> tuple[list[bytes], bytes]:
    """The lines of a request's head, and its body."""
    head, _, body = request.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body
