"""The model as a peer serves it: one session, and Open Inference JSON read and written by the
fastest codec there is.

The codec is the same in every peer, so what differs between them is the server.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import orjson

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = [
    "MAX_ROWS",
    "MODEL_VARIABLE",
    "PATH",
    "Rows",
    "answer_rows",
    "decode",
    "encode",
    "model_file",
    "open_session",
]

MODEL_VARIABLE = "BENCH_MODEL"
PATH = "/v2/models/cnn/infer"
MAX_ROWS = 64

Rows = npt.NDArray[np.float32]


def model_file() -> Path:
    """The ONNX file that the benchmark wants served."""
    return Path(os.environ[MODEL_VARIABLE])


def open_session(file: Path) -> "InferenceSession":
    """A session on one core: a small model gains nothing from more."""
    # Here, since the peers that only read inputs run without it.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def answer_rows(session: "InferenceSession", inputs: list[Rows]) -> list[Rows]:
    """Inputs [1, 1, 28, 28] each, run as one batch; outputs [1, 10] in their order."""
    y: Rows = session.run(None, {"x": np.concatenate(inputs)})[0]
    return [y[n : n + 1] for n in range(len(inputs))]


def decode(body: bytes) -> Rows:
    tensor: dict[str, Any] = orjson.loads(body)["inputs"][0]
    return np.array(tensor["data"], np.float32).reshape(tensor["shape"])


def encode(y: Rows) -> bytes:
    tensor = {"name": "y", "shape": y.shape, "datatype": "FP32", "data": y.ravel()}
    return orjson.dumps(
        {"model_name": "cnn", "outputs": [tensor]}, option=orjson.OPT_SERIALIZE_NUMPY
    )
