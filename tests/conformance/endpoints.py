"""Every endpoint of the data port as a function: one item in, the FP32 numbers of the model's
answer out.
"""

import base64
import gzip
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
from loadtests.support.http_request import HttpAnswer
from tests.conformance.talk import post, split, tensor

from headrace.inference.tensor import pack_bytes
from headrace_models.spec import ImageSpec, ModelSpec

__all__ = ["ENDPOINTS", "Asked", "Endpoint", "Floats", "exactly", "reference"]

Floats = np.ndarray
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Asked:
    """One photo or text, the same as the tensors that the model takes, and where to ask."""

    port: int
    spec: ModelSpec
    item: bytes
    arrays: Arrays

    def post(self, path: str, body: object, **headers: str) -> HttpAnswer:
        said = post(
            self.port,
            path,
            body,
            {name.replace("_", "-"): value for name, value in headers.items()},
        )
        assert said.status == 200, said.body
        return said

    def infer(self, document: dict[str, object], tail: bytes = b"", **headers: str) -> HttpAnswer:
        """An infer request, with the length of its JSON part if bytes follow it."""
        header = orjson.dumps(document)
        if tail:
            headers["Inference_Header_Content_Length"] = str(len(header))
        return self.post(f"/v2/models/{self.spec.name}/infer", header + tail, **headers)

    def v1(self, verb: str, body: object, **headers: str) -> Any:
        return self.post(f"/v1/models/{self.spec.name}:{verb}", body, **headers).json

    @property
    def raw(self) -> str:
        assert self.spec.raw is not None
        return self.spec.raw.input

    @property
    def is_photo(self) -> bool:
        return isinstance(self.spec.raw, ImageSpec)

    @property
    def value(self) -> object:
        """The item as JSON has it."""
        return (
            {"b64": base64.b64encode(self.item).decode()} if self.is_photo else self.item.decode()
        )

    def binary(self) -> tuple[list[dict[str, object]], bytes]:
        """The item as a binary tensor, and its bytes."""
        data = pack_bytes([self.item])
        parameters = {"binary_data_size": len(data)}
        return [
            {"name": self.raw, "shape": [1], "datatype": "BYTES", "parameters": parameters}
        ], data

    def tensors(self, data: Callable[[np.ndarray], object]) -> list[dict[str, object]]:
        kinds = {i.name: i.datatype for i in self.spec.inputs}
        return [
            tensor(name, array.shape, data(array), kinds[name])
            for name, array in self.arrays.items()
        ]


Endpoint = Callable[[Asked], Floats]
_BINARY = {"parameters": {"binary_data_output": True}}


def exactly(values: object) -> Floats:
    """Numbers of JSON as FP32, which each of them must be without rounding or by its shortest
    decimal.
    """
    return np.array(values, np.float32).ravel()


def _from_json(said: HttpAnswer) -> Floats:
    (output,) = said.json["outputs"]
    return exactly(output["data"])


def _from_binary(said: HttpAnswer) -> Floats:
    return np.frombuffer(split(said)[1], "<f4")


def reference(asked: Asked) -> Floats:
    """Binary in, binary out."""
    inputs, data = asked.binary()
    return _from_binary(asked.infer({"inputs": inputs, **_BINARY}, data))


def binary_in_json_out(asked: Asked) -> Floats:
    inputs, data = asked.binary()
    return _from_json(asked.infer({"inputs": inputs}, data))


def raw_binary(asked: Asked) -> Floats:
    """The body is the item and nothing else."""
    path = f"/v2/models/{asked.spec.name}/infer"
    return _from_binary(asked.post(path, asked.item, Inference_Header_Content_Length="0"))


def json_flat(asked: Asked) -> Floats:
    return _from_json(asked.infer({"inputs": asked.tensors(lambda array: array.ravel().tolist())}))


def json_nested(asked: Asked) -> Floats:
    return _from_json(asked.infer({"inputs": asked.tensors(lambda array: array.tolist())}))


def json_in_binary_out(asked: Asked) -> Floats:
    return _from_binary(
        asked.infer({"inputs": asked.tensors(lambda array: array.tolist()), **_BINARY})
    )


def binary_tensors(asked: Asked) -> Floats:
    inputs = asked.tensors(lambda _: None)
    for item, array in zip(inputs, asked.arrays.values(), strict=True):
        item["parameters"] = {"binary_data_size": array.nbytes}
    return _from_json(
        asked.infer(
            {"inputs": inputs}, b"".join(array.tobytes() for array in asked.arrays.values())
        )
    )


def gzip_in(asked: Asked) -> Floats:
    body = gzip.compress(orjson.dumps({"inputs": asked.tensors(lambda array: array.tolist())}))
    return _from_json(
        asked.post(f"/v2/models/{asked.spec.name}/infer", body, Content_Encoding="gzip")
    )


def gzip_out(asked: Asked) -> Floats:
    inputs, data = asked.binary()
    said = asked.infer({"inputs": inputs, **_BINARY}, data, Accept_Encoding="gzip")
    return _from_binary(replace(said, body=gzip.decompress(said.body)))


def deflate_out(asked: Asked) -> Floats:
    inputs, data = asked.binary()
    said = asked.infer({"inputs": inputs}, data, Accept_Encoding="deflate")
    return _from_json(replace(said, body=zlib.decompress(said.body)))


def generate(asked: Asked) -> Floats:
    document = asked.post(
        f"/v2/models/{asked.spec.name}/generate", {"text_input": asked.value}
    ).json
    return exactly(document[asked.spec.outputs[0].name])


def generate_tensors(asked: Asked) -> Floats:
    body = {name: array.ravel().tolist() for name, array in asked.arrays.items()}
    document = asked.post(f"/v2/models/{asked.spec.name}/generate", body).json
    return exactly(document[asked.spec.outputs[0].name])


def generate_stream(asked: Asked) -> Floats:
    said = asked.post(f"/v2/models/{asked.spec.name}/generate_stream", {"text_input": asked.value})
    event = orjson.loads(said.body.removeprefix(b"data: "))
    return exactly(event[asked.spec.outputs[0].name])


def predict_row(asked: Asked) -> Floats:
    return exactly(asked.v1("predict", {"instances": [asked.value]})["predictions"])


def predict_row_by_name(asked: Asked) -> Floats:
    return exactly(asked.v1("predict", {"instances": [{asked.raw: asked.value}]})["predictions"])


def predict_row_of_tensors(asked: Asked) -> Floats:
    row = {name: array[0].tolist() for name, array in asked.arrays.items()}
    return exactly(asked.v1("predict", {"instances": [row]})["predictions"])


def predict_column(asked: Asked) -> Floats:
    return exactly(asked.v1("predict", {"inputs": {asked.raw: [asked.value]}})["outputs"])


def predict_column_of_tensors(asked: Asked) -> Floats:
    columns = {name: array.tolist() for name, array in asked.arrays.items()}
    return exactly(asked.v1("predict", {"inputs": columns})["outputs"])


def embeddings_float(asked: Asked) -> Floats:
    body = {"model": asked.spec.name, "input": asked.value, "encoding_format": "float"}
    return exactly(asked.post("/v1/embeddings", body).json["data"][0]["embedding"])


def embeddings_base64(asked: Asked) -> Floats:
    body = {"model": asked.spec.name, "input": [asked.value], "encoding_format": "base64"}
    return np.frombuffer(
        base64.b64decode(asked.post("/v1/embeddings", body).json["data"][0]["embedding"]), "<f4"
    )


def embeddings_of_token_ids(asked: Asked) -> Floats:
    body = {"model": asked.spec.name, "input": asked.arrays["input_ids"][0].tolist()}
    return exactly(asked.post("/v1/embeddings", body).json["data"][0]["embedding"])


_ALL: list[Endpoint] = [
    binary_in_json_out,
    raw_binary,
    json_flat,
    json_nested,
    json_in_binary_out,
    binary_tensors,
    gzip_in,
    gzip_out,
    deflate_out,
    predict_row,
    predict_row_by_name,
    predict_row_of_tensors,
    predict_column,
    predict_column_of_tensors,
]
_OF_TEXT: list[Endpoint] = [generate, generate_tensors, generate_stream]
_OF_EMBEDDINGS: list[Endpoint] = [embeddings_float, embeddings_base64, embeddings_of_token_ids]
ENDPOINTS: dict[str, list[Endpoint]] = {
    "dga-lstm": [*_ALL, *_OF_TEXT],
    "efficientnet-lite0": _ALL,
    "mail-spam": [*_ALL, *_OF_TEXT],
    "minilm-l6": [*_ALL, *_OF_TEXT, *_OF_EMBEDDINGS],
}
