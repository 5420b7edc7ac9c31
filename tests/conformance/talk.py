"""A plain HTTP client of the two platforms, and the tensors it sends."""

import http.client
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

__all__ = ["Said", "get", "infer", "post", "refused", "split", "tensor", "wide"]

_DTYPES = {"float32": "FP32", "int64": "INT64"}


class Said(NamedTuple):
    """An answer; `json` is its body if that is JSON, else None."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return (
            orjson.loads(self.body)
            if self.headers.get("content-type") == "application/json" and self.body
            else None
        )


def get(port: int, path: str, headers: Mapping[str, str] | None = None) -> Said:
    return _ask(port, "GET", path, b"", headers or {})


def post(
    port: int, path: str, body: bytes | object = b"", headers: Mapping[str, str] | None = None
) -> Said:
    """`body` is sent as it is if it is bytes, else as JSON."""
    return _ask(
        port, "POST", path, body if isinstance(body, bytes) else orjson.dumps(body), headers or {}
    )


def _ask(port: int, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Said:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return Said(answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def tensor(
    name: str, shape: Sequence[int], data: object, datatype: str = "FP32", **more: object
) -> dict[str, object]:
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data, **more}


def wide(rows: "np.ndarray", **more: object) -> dict[str, object]:
    """An infer request of the model `wide`."""
    return {"inputs": [tensor("x", rows.shape, rows.ravel().tolist())], **more}


def infer(port: int, model: str, document: object) -> Any:
    """The answer's document; the request must be a right one."""
    said = post(port, f"/v2/models/{model}/infer", document)
    assert said.status == 200, said.body
    return said.json


def refused(said: Said, status: int, code: str = "") -> bool:
    """Whether it is an error as the protocol has it: an object with a string `error`."""
    document = said.json
    return (
        said.status == status
        and isinstance(document["error"], str)
        and code in ("", document["code"])
    )


def split(said: Said) -> tuple[Any, bytes]:
    """A binary answer's JSON part and what follows it."""
    length = int(said.headers["inference-header-content-length"])
    return orjson.loads(said.body[:length]), said.body[length:]
