"""The batcher's yardstick: how well batches form when the executor is slow and the load is steady.

    python -m loadtests.yardstick

A model that takes 50 ms whatever the batch, at most 32 rows of it, behind the real gateway, channel
and replica, each in a process of its own and without Ray. 200 requests a second come evenly. A
batcher that waits for nothing answers all of them, none later than two batches after it came. Exit
status 1 if the figures are below the mark.
"""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
import uvloop
from loadtests.inputs import CheckedRequest, infer_request
from loadtests.open_loop import Figures, figures, fixed_schedule, measure, show
from loadtests.support.process_platform import Replica, process_platform
from rich.console import Console

from headrace.backends import Backend
from headrace.inference.tensor import Array
from headrace_models.repository import ModelVersion, sha256_of

__all__ = [
    "BATCH_S",
    "MODEL",
    "SimulatedBackend",
    "answer_to",
    "is_met",
    "load",
    "requests",
    "write_model",
]

MODEL = "yardstick"
BATCH_S = 0.05
MAX_ROWS = 32
RATE = 200.0
MIN_RATE, MAX_P99_S = 190.0, 0.110
WIDTH = 16
_DEADLINE_S = 5.0

_SPEC = """\
name = "{name}"
version = "1"
golden = "golden.npz"

[weights]
onnx = "model.onnx"

[[inputs]]
name = "x"
datatype = "FP32"
shape = [{width}]

[[outputs]]
name = "y"
datatype = "FP32"
shape = [{width}]

[batching]
max_rows = {max_rows}

[files]
"golden.npz" = "{golden}"
"model.onnx" = "{weights}"
"""


class SimulatedBackend:
    """Takes BATCH_S for a batch of any size, as a GPU does for a small model; y = 3 x + 1."""

    device = "simulated"
    lanes = 1

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        time.sleep(BATCH_S)
        return {"y": answer_to(inputs["x"])}


def answer_to(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return 3 * x + np.float32(1)


def load(_: ModelVersion, __: str) -> Backend:
    return SimulatedBackend()


def write_model(root: Path, max_rows: int = MAX_ROWS) -> Path:
    """Write a version folder of the simulated model; its weights are a stand-in."""
    folder = root / MODEL / "1"
    folder.mkdir(parents=True)
    x = np.arange(WIDTH, dtype=np.float32)[np.newaxis]
    np.savez(folder / "golden.npz", allow_pickle=False, **{"input:x": x, "output:y": answer_to(x)})
    (folder / "model.onnx").write_bytes(b"simulated")
    digests = {
        "golden": sha256_of(folder / "golden.npz"),
        "weights": sha256_of(folder / "model.onnx"),
    }
    text = _SPEC.format(name=MODEL, width=WIDTH, max_rows=max_rows, **digests)
    (folder / "model.toml").write_text(text, encoding="utf-8")
    return folder


def requests(count: int) -> list[CheckedRequest]:
    """Requests of one row, no two alike."""
    rows = [np.full((1, WIDTH), n, np.float32) for n in range(count)]
    return [infer_request(MODEL, {"x": x}, "y", answer_to(x)) for x in rows]


def is_met(found: Figures) -> bool:
    """True if the batcher is as good as it should be."""
    return found.goodput >= MIN_RATE and found.p99_s <= MAX_P99_S


def main(
    seconds: Annotated[float, typer.Option(min=1, help="How long.")] = 20.0,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second.")] = RATE,
) -> None:
    """Measure the batcher behind the real gateway, against a simulated model of 50 ms a batch."""
    console = Console(soft_wrap=True, highlight=False)
    schedule = fixed_schedule(rate, seconds)
    with (
        tempfile.TemporaryDirectory(prefix="yardstick-") as temporary,
        process_platform([Replica(write_model(Path(temporary)), load)]) as at,
    ):
        found = figures(
            uvloop.run(measure(at.url, requests(len(schedule)), schedule, _DEADLINE_S)), seconds
        )
    show(found, console)
    verdict = "met" if is_met(found) else "missed"
    console.print(
        f"mark {verdict}: at least {MIN_RATE:g} right answers/s, p99 at most {MAX_P99_S * 1e3:g} ms"
    )
    raise typer.Exit(0 if is_met(found) else 1)


if __name__ == "__main__":
    typer.run(main)
