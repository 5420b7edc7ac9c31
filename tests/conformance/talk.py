"""A plain HTTP client of the two platforms, and the tensors it sends."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from loadtests.support.http_request import HttpAnswer, http_request

__all__ = ["get", "infer", "post", "refused", "split", "tensor", "wide"]

_DTYPES = {"float32": "FP32", "int64": "INT64"}


def get(port: int, path: str, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    return http_request(port, "GET", path, headers=headers)


def post(
    port: int, path: str, body: bytes | object = b"", headers: Mapping[str, str] | None = None
) -> HttpAnswer:
    """`body` is sent as it is if it is bytes, else as JSON."""
    sent = body if isinstance(body, bytes) else orjson.dumps(body)
    return http_request(port, "POST", path, sent, headers)


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


def refused(said: HttpAnswer, status: int, code: str = "") -> bool:
    """True if it is an error of the protocol: an object with a string `error`."""
    document = said.json
    return (
        said.status == status
        and isinstance(document["error"], str)
        and code in ("", document["code"])
    )


def split(said: HttpAnswer) -> tuple[Any, bytes]:
    """A binary answer's JSON part and what follows it."""
    length = int(said.headers["inference-header-content-length"])
    return orjson.loads(said.body[:length]), said.body[length:]
