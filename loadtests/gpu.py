"""Rate and latency of the host beside those of its bare backend, on the device at hand.

    python -m loadtests.gpu --model minilm-l6 --json gpu.json

One process, no Ray, no HTTP, no preprocessing: rows go straight into a replica's host, one a
request. The bare backend is called from one thread in a plain loop, at each of several batch sizes,
and the best of them is what the host is held against. The host's rate may be higher on a GPU, where
it has two batches on the way at a time.
"""

import asyncio
import importlib
import importlib.util
import os
import platform
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, perf_counter
from typing import Annotated

import numpy as np
import orjson
import typer
import uvloop
from loadtests.open_loop import poisson_schedule
from loadtests.support.checkout import REPOSITORY
from rich.console import Console
from rich.table import Table

from headrace import backends
from headrace.backends import Backend
from headrace.errors import HeadraceError
from headrace.inference.request import Request
from headrace.inference.tensor import Array, from_array
from headrace.loadtest.percentiles import percentiles
from headrace.replica.host import Host, Load
from headrace.telemetry.events import ReplicaEvents
from headrace_models.repository import ModelVersion, scan
from headrace_models.spec import DTYPES

__all__ = ["Bare", "Case", "Latency", "Measured", "batch_sizes", "cases_of", "measure", "report"]


LENGTHS = (16, 64, 128)
MODELS = ("efficientnet-lite0", "minilm-l6")
RUNTIMES = {"onnx": "onnxruntime", "torch": "torch"}
_IN_FLIGHT = 4  # times max_rows, at saturation
_LIGHT, _BUSY = 0.1, 0.7
_DEADLINE_S = 30.0
_MOST_REQUESTS = 100_000
_ASK_TIMEOUT_S = 10.0
_TABLE_WIDTH = 130

Ask = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """A model version, one of its backends, and the length of its variable inputs, if any."""

    version: ModelVersion
    backend: str
    length: int | None

    def batch(self, rows: int) -> dict[str, Array]:
        """Inputs that the model takes; what they hold does not change what they cost."""
        spec = self.version.spec
        shapes = {
            i.name: [self.length or 1 if axis == -1 else axis for axis in i.shape]
            for i in spec.inputs
        }
        return {i.name: np.ones((rows, *shapes[i.name]), DTYPES[i.datatype]) for i in spec.inputs}


@dataclass(frozen=True)
class Bare:
    """The backend alone, at its best batch size."""

    rows: int
    rows_per_s: float
    batch_s: float


@dataclass(frozen=True)
class Latency:
    """Latencies at `rate` requests a second; `answered` is the share that was answered."""

    rate: float
    p50_s: float
    p99_s: float
    answered: float


@dataclass(frozen=True)
class Measured:
    """A line of the table. Ratios: host's to bare rate, and its p50 to one bare row's."""

    model: str
    backend: str
    device: str
    length: int | None
    bare: Bare
    one_row_s: float
    rows_per_s: float
    light: Latency
    busy: Latency

    @property
    def rate_ratio(self) -> float:
        return self.rows_per_s / self.bare.rows_per_s

    @property
    def light_ratio(self) -> float:
        return self.light.p50_s / self.one_row_s

    @property
    def busy_ratio(self) -> float:
        return self.busy.p50_s / self.one_row_s


def batch_sizes(max_rows: int) -> list[int]:
    """1, 2, 4 and so on, and `max_rows`."""
    return sorted({1 << n for n in range(max_rows.bit_length()) if 1 << n <= max_rows} | {max_rows})


def cases_of(repository: Path, models: Sequence[str]) -> list[Case]:
    """Each backend whose runtime is installed, at each of LENGTHS if the length is variable."""
    versions, _ = scan(repository, list(models))
    return [
        Case(version, backend, length)
        for version in versions
        for backend in sorted(version.spec.weights)
        if RUNTIMES[backend] in _installed()
        for length in (LENGTHS if any(-1 in i.shape for i in version.spec.inputs) else (None,))
    ]


def _installed() -> list[str]:
    return [module for module in RUNTIMES.values() if importlib.util.find_spec(module)]


def bare(backend: Backend, case: Case, sizes: Sequence[int], seconds: float) -> list[Bare]:
    """Run the backend in a loop, `seconds` for all sizes; first calls are not counted."""
    found = []
    for rows in sizes:
        batch = case.batch(rows)
        backend.run(batch)
        took_s: list[float] = []
        until_s = perf_counter() + seconds / len(sizes)
        while not took_s or perf_counter() < until_s:
            started_s = perf_counter()
            backend.run(batch)
            took_s.append(perf_counter() - started_s)
        found.append(Bare(rows, rows * len(took_s) / sum(took_s), float(np.median(took_s))))
    return found


async def hosted(host: Host, case: Case, seconds: float) -> tuple[float, Latency, Latency]:
    """Rows a second with many requests in flight; latencies at a light and a high share of that."""
    row = [from_array(name, array) for name, array in case.batch(1).items()]

    async def ask() -> None:
        await host.infer(Request(row, (), monotonic() + _DEADLINE_S))

    in_flight = _IN_FLIGHT * case.version.spec.batching.max_rows
    await _saturate(ask, in_flight, seconds / 4)  # warms up what batches of every size need
    rate = await _saturate(ask, in_flight, seconds)
    return (
        rate,
        await _open_loop(ask, rate * _LIGHT, seconds),
        await _open_loop(ask, rate * _BUSY, seconds),
    )


async def _saturate(ask: Ask, in_flight: int, seconds: float) -> float:
    """Answers a second while each of so many callers asks again as soon as it is answered."""
    started_s = perf_counter()
    answered = 0

    async def caller() -> None:
        nonlocal answered
        while perf_counter() < started_s + seconds:
            await ask()
            answered += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(caller())
    return answered / (perf_counter() - started_s)


async def _open_loop(ask: Ask, rate: float, seconds: float) -> Latency:
    """Latency since requests were due, which come at random and wait for nobody."""
    schedule = poisson_schedule(rate, min(seconds, _MOST_REQUESTS / rate)) or [0.0]
    took_s: list[float] = []
    started_s = perf_counter()

    async def one(due_s: float) -> None:
        with suppress(HeadraceError):
            await ask()
            took_s.append(perf_counter() - started_s - due_s)

    async with asyncio.TaskGroup() as group:
        for due_s in schedule:
            if (wait_s := started_s + due_s - perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            group.create_task(one(due_s))
    p50_s, p99_s = percentiles(took_s or (float("inf"),), (50, 99))
    return Latency(rate, p50_s, p99_s, len(took_s) / len(schedule))


async def measure(case: Case, seconds: float, load: Load = backends.load) -> Measured:
    """Measure the bare backend, then the host with its own; each takes about `seconds`."""
    backend = await asyncio.to_thread(load, case.version, case.backend)
    alone = await asyncio.to_thread(
        bare, backend, case, batch_sizes(case.version.spec.batching.max_rows), seconds
    )
    device = backend.device
    del backend  # before the host loads another one beside it
    async with Host(case.version, case.backend, ReplicaEvents(), load) as host:
        rate, light, busy = await hosted(host, case, seconds)
    best = max(alone, key=lambda found: found.rows_per_s)
    name = case.version.spec.name
    return Measured(
        name, case.backend, device, case.length, best, alone[0].batch_s, rate, light, busy
    )


def report(measured: Sequence[Measured], seconds: float) -> dict[str, object]:
    """The document that --json writes: figures, ratios, device and day."""
    ratios = ("rate_ratio", "light_ratio", "busy_ratio")
    figures = [asdict(m) | {ratio: getattr(m, ratio) for ratio in ratios} for m in measured]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_name(),
        "cores": os.cpu_count(),
        "seconds": seconds,
        "versions": {
            module: getattr(importlib.import_module(module), "__version__", "")
            for module in _installed()
        },
        "measured": figures,
    }


def device_name() -> str:
    """The GPU by its driver's own tool, which needs neither runtime; else the processor."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        found = subprocess.run(
            query, capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=True
        ).stdout
        return ", driver ".join(found.splitlines()[0].split(", "))
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def table(measured: Sequence[Measured]) -> Table:
    shown = Table("model", "backend", box=None)
    for heading in (
        "length",
        "bare rows/s",
        "at",
        "host rows/s",
        "to bare",
        "light p50 / p99",
        "70 % p50 / p99",
    ):
        shown.add_column(heading, justify="right", no_wrap=True)
    for m in measured:
        shown.add_row(
            m.model,
            f"{m.backend}, {m.device}",
            "-" if m.length is None else str(m.length),
            f"{m.bare.rows_per_s:,.0f}",
            str(m.bare.rows),
            f"{m.rows_per_s:,.0f}",
            f"{m.rate_ratio:.2f}x",
            _latency(m.light, m.light_ratio),
            _latency(m.busy, m.busy_ratio),
        )
    return shown


def _latency(found: Latency, ratio: float) -> str:
    lost = "" if found.answered == 1 else f", {1 - found.answered:.1%} lost"
    return f"{found.p50_s * 1e3:.1f} / {found.p99_s * 1e3:.1f} ms ({ratio:.1f}x){lost}"


def main(
    model: Annotated[
        list[str] | None, typer.Option(help="Which models; may be given several times.")
    ] = None,
    models: Annotated[Path, typer.Option(help="The repository that they are in.")] = REPOSITORY,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=60, help="How long each part of a measurement takes.")
    ] = 5.0,
    json: Annotated[Path | None, typer.Option(help="Write the figures here too.")] = None,
) -> None:
    """Measure the host beside the bare backend, on the device that is there, and print one table.

    Example: python -m loadtests.gpu --model minilm-l6 --seconds 3 --json gpu.json
    """
    console, progress = (
        Console(soft_wrap=True, highlight=False),
        Console(stderr=True, highlight=False),
    )
    console.width = max(console.width, _TABLE_WIDTH)  # cut off it says nothing
    measured = []
    for case in cases_of(models, model or MODELS):
        progress.print(
            f"{case.version.spec.name}: "
            f"{case.backend}{f', length {case.length}' if case.length else ''}"
        )
        measured.append(uvloop.run(measure(case, seconds)))
    if not measured:
        progress.print(
            f"gpu: {models} has none of the models, or no runtime for them is installed",
            markup=False,
        )
        raise typer.Exit(1)
    console.print(table(measured))
    console.print(
        f"{device_name()}, {os.cpu_count()} cores; {seconds:g} s a part, a row a request, no "
        "HTTP, no Ray."
    )
    console.print(
        "to bare: the host's rate to the bare backend's; in brackets: p50 to the bare "
        "backend's one row."
    )
    if json:
        json.write_bytes(orjson.dumps(report(measured, seconds), option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    typer.run(main)
