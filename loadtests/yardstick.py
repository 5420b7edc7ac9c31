"""The batcher's yardstick: how well batches form when the executor is slow and the load is steady.

    python loadtests/yardstick.py

A model that takes 50 ms whatever the batch, at most 32 rows of it, behind the real gateway, channel and replica, each
in a process of its own and without Ray. 200 requests a second come evenly. A batcher that waits for nothing answers
all of them, none later than two batches after it came. Exit status 1 if the figures are below the mark.
"""

import multiprocessing
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import numpy.typing as npt
import typer
import uvloop
from rich.console import Console

# Run as a file, Python sees only this file's folder.
sys.path.insert(0, str(Path(__file__).parents[1]))

from loadtests.inputs import Shot, infer_shot, is_served
from loadtests.open_loop import Figures, figures, fixed_schedule, measure, show

from headrace.backends import Backend
from headrace.channel import Address
from headrace.fleet.entries import Fleet, ReplicaEntry
from headrace.gateway.admission import DoorLimits
from headrace.gateway.serving import GatewayOrder, serve_gateway
from headrace.gateway.serving import Serving as GatewayServing
from headrace.loop_thread import LoopThread
from headrace.replica.serving import ReplicaOrder, serve_replica
from headrace.replica.serving import Serving as ReplicaServing
from headrace.tensor import Array
from headrace_models.repository import ModelVersion, read_version, sha256_of

__all__ = ["SimulatedBackend", "free_port", "is_met", "process", "serve_until_closed", "shots", "write_model"]

MODEL = "yardstick"
BATCH_S = 0.05
MAX_ROWS = 32
RATE = 200.0
MIN_RATE, MAX_P99_S = 190.0, 0.110
WIDTH = 16
_HOST, _NODE, _TOKEN = "127.0.0.1", "here", "yardstick"
_START_TIMEOUT_S = 60.0
_DEADLINE_S = 5.0
_POLL_S = 0.02

T = TypeVar("T")

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


def write_model(root: Path) -> Path:
    """A version folder that describes the simulated model; its weights are a stand-in that nothing reads."""
    folder = root / MODEL / "1"
    folder.mkdir(parents=True)
    x = np.arange(WIDTH, dtype=np.float32)[np.newaxis]
    np.savez(folder / "golden.npz", allow_pickle=False, **{"input:x": x, "output:y": answer_to(x)})
    (folder / "model.onnx").write_bytes(b"simulated")
    digests = {"golden": sha256_of(folder / "golden.npz"), "weights": sha256_of(folder / "model.onnx")}
    text = _SPEC.format(name=MODEL, width=WIDTH, max_rows=MAX_ROWS, **digests)
    (folder / "model.toml").write_text(text, encoding="utf-8")
    return folder


def shots(count: int) -> list[Shot]:
    """Requests of one row, no two alike."""
    rows = [np.full((1, WIDTH), n, np.float32) for n in range(count)]
    return [infer_shot(MODEL, {"x": x}, "y", answer_to(x)) for x in rows]


def is_met(found: Figures) -> bool:
    """Whether the batcher is as good as it should be."""
    return found.goodput >= MIN_RATE and found.p99_s <= MAX_P99_S


def run_replica(folder: str, unix: str, pipe: Connection) -> None:
    """The replica's process: tells its TCP port, then serves until its pipe closes."""
    order = ReplicaOrder(folder, "onnx", _NODE, _HOST, unix, _TOKEN)
    thread: LoopThread[ReplicaServing] = LoopThread(
        "replica", lambda ready, stop: serve_replica(order, ready, stop, load)
    )
    serve_until_closed(thread, pipe, lambda serving: pipe.send(serving.address.port))


def run_gateway(folder: str, unix: str, replica_port: int, port: int, pipe: Connection) -> None:
    """The gateway's process, in front of one replica."""
    spec = read_version(Path(folder)).spec
    replica = ReplicaEntry("replica", spec, (), Address(_NODE, unix, _HOST, replica_port), "onnx")
    order = GatewayOrder(_HOST, port, _NODE, _HOST, _TOKEN, DoorLimits())
    thread: LoopThread[GatewayServing] = LoopThread("gateway", partial(serve_gateway, order))

    def tell(serving: GatewayServing) -> None:
        thread.call(lambda: serving.update(Fleet(1, (MODEL,), (replica,), ())))
        pipe.send(port)

    serve_until_closed(thread, pipe, tell)


def serve_until_closed(thread: LoopThread[T], pipe: Connection, tell: Callable[[T], None]) -> None:
    tell(thread.start(_START_TIMEOUT_S))
    with suppress(EOFError):
        pipe.recv()
    thread.stop()
    thread.wait(_START_TIMEOUT_S)


@contextmanager
def process(work: Callable[..., None], *arguments: object) -> Iterator[Any]:
    """A process that runs `work(*arguments, pipe)`; gives the first thing that it tells, and ends it on leaving."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process: BaseProcess = context.Process(target=work, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(_START_TIMEOUT_S):
            raise TimeoutError(f"{work.__name__} was not ready within {_START_TIMEOUT_S:g} s")
        yield ours.recv()
    finally:
        ours.close()
        process.join(_START_TIMEOUT_S)


@contextmanager
def platform() -> Iterator[str]:
    """Gateway and replica, ready to answer; gives the URL."""
    with tempfile.TemporaryDirectory(prefix="yardstick-") as place:
        folder, unix, port = str(write_model(Path(place))), f"{place}/replica.sock", free_port()
        with (
            process(run_replica, folder, unix) as replica_port,
            process(run_gateway, folder, unix, replica_port, port),
        ):
            url = f"http://{_HOST}:{port}"
            _wait_until_ready(url)
            yield url


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(url: str) -> None:
    until_s = time.monotonic() + _START_TIMEOUT_S
    while not is_served(url, MODEL):
        if time.monotonic() > until_s:
            raise TimeoutError(f"the gateway had no replica within {_START_TIMEOUT_S:g} s")
        time.sleep(_POLL_S)


def main(
    seconds: Annotated[float, typer.Option(min=1, help="How long.")] = 20.0,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second.")] = RATE,
) -> None:
    """Measure the batcher behind the real gateway, against a simulated model of 50 ms a batch."""
    console = Console(soft_wrap=True, highlight=False)
    schedule = fixed_schedule(rate, seconds)
    with platform() as url:
        found = figures(uvloop.run(measure(url, shots(len(schedule)), schedule, _DEADLINE_S)), seconds)
    show(found, console)
    verdict = "met" if is_met(found) else "missed"
    console.print(f"mark {verdict}: at least {MIN_RATE:g} right answers/s, p99 at most {MAX_P99_S * 1e3:g} ms")
    raise typer.Exit(0 if is_met(found) else 1)


if __name__ == "__main__":
    typer.run(main)
