"""The simulated models of the overload tests: their speed is known by arithmetic, and they remember
what they ran.

They sleep, so they need no processor. Each row is its request's number, so that an answer shows
whose it is, and each run of it is counted in a file that the test shares.
"""

import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
from loadtests.support.process_platform import Replica
from loadtests.yardstick import MODEL, WIDTH, answer_to, write_model

from headrace.backends import Backend
from headrace.inference.tensor import Array
from headrace_models.repository import ModelVersion

__all__ = [
    "BATCH_S",
    "CAPACITY",
    "FRAGILE_ROWS",
    "MAX_ROWS",
    "POISON",
    "Runs",
    "fixed",
    "fragile",
    "is_answer",
    "request",
]

BATCH_S, MAX_ROWS = 0.05, 16
CAPACITY = MAX_ROWS / BATCH_S
FRAGILE_BASE_S, FRAGILE_ROW_S, FRAGILE_ROWS = 0.02, 0.002, 100
# The number of the one request that makes the fragile model raise.
POISON = 999_999
_MOST_REQUESTS = 1_000_000

Runs = npt.NDArray[np.uint8]


class _Counting:
    """The part that both models share: y = 3 x + 1, and a count of the runs of each number."""

    device = "simulated"
    lanes = 1

    def __init__(self, folder: Path) -> None:
        self._runs = _shared_runs(folder)

    def answer(self, x: Array) -> Mapping[str, Array]:
        self._runs[x[:, 0].astype(np.int64)] += 1
        return {"y": answer_to(x)}


class FixedBackend(_Counting):
    """Takes BATCH_S for a batch of any size."""

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        time.sleep(BATCH_S)
        return self.answer(inputs["x"])


class FragileBackend(_Counting):
    """Takes 20 ms and 2 ms a row, and then raises if the poison is in the batch."""

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        x = inputs["x"]
        time.sleep(FRAGILE_BASE_S + FRAGILE_ROW_S * len(x))
        if (x == POISON).any():
            raise ValueError("poison")
        return self.answer(x)


def fixed(root: Path) -> tuple[Replica, Runs]:
    """A replica of the model that takes BATCH_S a batch, and the counts of what it runs."""
    folder = write_model(root, MAX_ROWS)
    return Replica(folder, _load_fixed), _made_runs(folder)


def fragile(root: Path) -> tuple[Replica, Runs]:
    """A replica of the model that the poison makes raise, and the counts of what it runs."""
    folder = write_model(root, FRAGILE_ROWS)
    return Replica(folder, _load_fragile), _made_runs(folder)


def request(number: int, deadline_s: float, key: str = "", rows: int = 1) -> bytes:
    """The HTTP request of a number, which fills all rows; tensors are binary both ways."""
    tensor = np.full((rows, WIDTH), number, "<f4").tobytes()
    header = _header(rows)
    return b"%s%d\r\n\r\n%s%s" % (
        _head(deadline_s, key, len(header)),
        len(header) + len(tensor),
        header,
        tensor,
    )


@cache
def _header(rows: int) -> bytes:
    x = {
        "name": "x",
        "datatype": "FP32",
        "shape": [rows, WIDTH],
        "parameters": {"binary_data_size": 4 * rows * WIDTH},
    }
    return orjson.dumps(
        {"inputs": [x], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
    )


@cache
def _head(deadline_s: float, key: str, header_bytes: int) -> bytes:
    headers = {
        "Host": "localhost",
        **({"Authorization": f"Bearer {key}"} if key else {}),
        "X-Request-Timeout": f"{deadline_s:g}",
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": f"{header_bytes}",
    }
    lines = [
        f"POST /v2/models/{MODEL}/infer HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "Content-Length: "]).encode()


def is_answer(number: int, body: bytes) -> bool:
    """True if the tensor at the end of a binary answer belongs to this request."""
    expected = answer_to(np.full(WIDTH, number, np.float32))
    return len(body) > expected.nbytes and bool(
        (np.frombuffer(body[-expected.nbytes :], "<f4") == expected).all()
    )


def _load_fixed(version: ModelVersion, _: str) -> Backend:
    return FixedBackend(version.folder)


def _load_fragile(version: ModelVersion, _: str) -> Backend:
    return FragileBackend(version.folder)


def _runs_file(folder: Path) -> Path:
    return folder.parent / "runs.bin"


def _made_runs(folder: Path) -> Runs:
    return np.memmap(_runs_file(folder), np.uint8, "w+", shape=(_MOST_REQUESTS,))


def _shared_runs(folder: Path) -> Runs:
    return np.memmap(_runs_file(folder), np.uint8, "r+", shape=(_MOST_REQUESTS,))
