"""This project beside its peers, one table: the same small model, the same requests, the same
machine, one run.

    python -m loadtests.bench

A CNN of some 25 us an image, so that what is measured is the server. Each system has the machine to
itself, with wrk beside it on loopback; this project is measured before and after the peers, to show
how steady the machine was. Needs Debian's wrk. Exit status 2 if wrk is missing, 1 if this project
could not be measured; a peer that cannot be is left out, and said why.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, NoReturn

import numpy as np
import onnxruntime
import orjson
import typer
from loadtests.inputs import CheckedRequest, infer_request
from loadtests.peers.cnn import MODEL_VARIABLE, Rows, open_session
from loadtests.peers.environment import PeerUnavailable, prepare
from loadtests.peers.make_cnn import write_cnn
from loadtests.support.checkout import ROOT
from loadtests.support.http_request import http_request
from loadtests.support.ports import HOST, free_port
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from headrace.loadtest.percentiles import percentiles
from headrace_models.add import add

__all__ = ["BenchFailed", "Figures", "Measured", "merge", "read_wrk", "table_rows"]

HEADRACE, BASELINE, MOSEC, LIMIT = "headrace", "Ray Serve", "mosec", "limit"
CONNECTIONS = (1, 64)
LIMIT_ROWS = (1, 32)
JSON, BINARY = "JSON", "binary"

_MODEL = "cnn"
_PEERS = ROOT / "loadtests" / "peers"
_ENVIRONMENTS = ROOT / ".cache" / "bench"
_MOSEC_VERSION = "0.9.8"
_NONE = "-"
_WARM_UP_S = 1
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 30.0
_ASK_TIMEOUT_S = 10.0
_WRK_GRACE_S = 30.0
_POLL_S = 0.1
_LOG_TAIL = 5
# Ray's workers would run at nice 15 beside a wrk at nice 0. The same for every system that runs on
# Ray.
_RAY = {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


class BenchFailed(Exception):
    """A system could not be started, or did not answer every request."""


@dataclass(frozen=True)
class Figures:
    """Figures of wrk: answers a second, and the times within which 50 and 99 % of them came."""

    rate: float
    p50_s: float
    p99_s: float


@dataclass(frozen=True)
class Measured:
    """A row of the table. `spread` is half the difference of two runs, as a share of the rate."""

    system: str
    body: str
    connections: int | None
    figures: Figures
    spread: float | None = None


@dataclass(frozen=True)
class System:
    """A system to measure. `command` serves it on `port` and prints `ready`, if given."""

    name: str
    command: Sequence[str]
    cwd: Path
    port: int
    bodies: Sequence[str] = (JSON,)
    ready: str = ""


@dataclass(frozen=True)
class Bench:
    """Settings that all measurements share; `folder` has the model, the bodies and the logs."""

    folder: Path
    model: Path
    requests: Mapping[str, CheckedRequest]
    seconds: int
    progress: Progress

    def log(self, system: System) -> Path:
        return self.folder / f"{system.port}.log"

    def post(self, port: int, body: str, connections: int, seconds: int) -> Figures:
        """Drive a server with wrk. Raises BenchFailed if a request was not answered."""
        request = self.requests[body]
        file = self.folder / f"body.{body}"
        file.write_bytes(request.body)
        headers = [f"{name}: {value}" for name, value in request.headers.items()]
        load = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(_PEERS / "post.lua")]
        command = ["wrk", *load, f"http://{HOST}:{port}{request.path}", "--", str(file), *headers]
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds + _WRK_GRACE_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise BenchFailed("wrk did not end in time") from None
        return read_wrk(ended.stdout + ended.stderr)


def read_wrk(text: str) -> Figures:
    """The figures that post.lua prints last. Raises BenchFailed without any or on failures."""
    line = next((line for line in text.splitlines() if line.startswith("figures ")), None)
    if line is None:
        raise BenchFailed(
            f"wrk gave no figures: {(text.strip().splitlines() or ['no output'])[-1]}"
        )
    found = orjson.loads(line.removeprefix("figures "))
    if found["refused"] or found["broken"]:
        raise BenchFailed(
            f"of {found['requests']} requests {found['refused']} were refused, "
            f"{found['broken']} broken"
        )
    if not found["requests"]:
        raise BenchFailed("no request was answered")
    return Figures(
        found["requests"] / (found["duration_us"] / 1e6),
        found["p50_us"] / 1e6,
        found["p99_us"] / 1e6,
    )


def merge(before: Sequence[Measured], after: Sequence[Measured]) -> list[Measured]:
    """Merge two runs of one system: the mean rate and its spread, the worse latencies."""
    return [_merge(first, second) for first, second in zip(before, after, strict=True)]


def _merge(first: Measured, second: Measured) -> Measured:
    one, two = first.figures, second.figures
    mean = (one.rate + two.rate) / 2
    figures = Figures(mean, max(one.p50_s, two.p50_s), max(one.p99_s, two.p99_s))
    return replace(first, figures=figures, spread=abs(one.rate - two.rate) / 2 / mean)


def table_rows(measured: Iterable[Measured]) -> list[tuple[str, ...]]:
    """Cells as printed; the last is the ratio to the baseline's rate at as many connections."""
    measured = list(measured)
    baseline = {m.connections: m.figures.rate for m in measured if m.system == BASELINE}
    return [_cells(m, baseline.get(m.connections)) for m in measured]


def _cells(row: Measured, baseline: float | None) -> tuple[str, ...]:
    figures = row.figures
    spread = "" if row.spread is None else f" ± {row.spread:.0%}"
    return (
        row.system,
        row.body,
        _NONE if row.connections is None else str(row.connections),
        f"{figures.rate:,.0f}{spread}",
        _milliseconds(figures.p50_s),
        _milliseconds(figures.p99_s),
        _NONE if baseline is None else f"{figures.rate / baseline:.1f}x",
    )


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


def make_requests(model: Path) -> dict[str, CheckedRequest]:
    """One image in each body that is measured, with the answer that the model itself gives."""
    x = np.random.default_rng(1).random((1, 1, 28, 28), np.float32).round(4)
    (y,) = open_session(model).run(None, {"x": x})
    binary = infer_request(_MODEL, {"x": x}, "y", y)
    return {
        JSON: replace(binary, headers={"Content-Type": "application/json"}, body=_json_body(x)),
        BINARY: binary,
    }


def _json_body(x: Rows) -> bytes:
    tensor = {"name": "x", "shape": x.shape, "datatype": "FP32", "data": x.ravel()}
    return orjson.dumps({"inputs": [tensor]}, option=orjson.OPT_SERIALIZE_NUMPY)


def measure_limit(model: Path, seconds: int) -> list[Measured]:
    """The same session in this process without a server: images a second, time of a batch."""
    session = open_session(model)
    return [
        Measured(
            LIMIT,
            f"{rows} a batch",
            None,
            _time_batches(lambda x: session.run(None, {"x": x}), rows, seconds),
        )
        for rows in LIMIT_ROWS
    ]


def _time_batches(run: Callable[[Rows], object], rows: int, seconds: float) -> Figures:
    x = np.random.default_rng(1).random((rows, 1, 28, 28), np.float32)
    run(x)
    took_s, began_s = [], time.perf_counter()
    while (now_s := time.perf_counter()) < began_s + seconds:
        run(x)
        took_s.append(time.perf_counter() - now_s)
    p50_s, p99_s = percentiles(took_s, (50, 99))
    return Figures(rows * len(took_s) / sum(took_s), p50_s, p99_s)


def measure(bench: Bench, system: System) -> list[Measured]:
    """Start a system, check an answer of each body, measure it, and stop it. Raises BenchFailed."""
    task = bench.progress.add_task(
        f"{system.name}: starting", total=len(system.bodies) * len(CONNECTIONS)
    )
    measured = []
    with _running(bench, system):
        for body in system.bodies:
            bench.post(system.port, body, max(CONNECTIONS), _WARM_UP_S)
            for connections in CONNECTIONS:
                label = f"{system.name}: {body}, {connections} connection{'s' * (connections > 1)}"
                bench.progress.update(task, description=label)
                figures = bench.post(system.port, body, connections, bench.seconds)
                measured.append(Measured(system.name, body, connections, figures))
                bench.progress.advance(task)
        bench.progress.update(task, description=f"{system.name}: stopping")
    bench.progress.update(task, description=system.name)
    return measured


@contextmanager
def _running(bench: Bench, system: System) -> Iterator[None]:
    """Run the system until it is ready to answer; it and all that it started end on leaving."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= _RAY | {MODEL_VARIABLE: str(bench.model)}
    with bench.log(system).open("wb") as log:
        process = subprocess.Popen(
            system.command,
            cwd=system.cwd,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_until_ready(bench, system, process)
        for body in system.bodies:
            if not _is_right(system.port, bench.requests[body]):
                raise BenchFailed(f"{system.name} gave a wrong answer to the {body} body")
        yield
    finally:
        _stop(process)


def _wait_until_ready(bench: Bench, system: System, process: "subprocess.Popen[bytes]") -> None:
    until_s = time.monotonic() + _START_TIMEOUT_S
    log = bench.log(system)
    while not (
        system.ready in log.read_text(errors="replace")
        and _is_right(system.port, bench.requests[JSON])
    ):
        if process.poll() is not None or time.monotonic() > until_s:
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise BenchFailed("\n".join((f"{system.name} did not start", *lines[-_LOG_TAIL:])))
        time.sleep(_POLL_S)


def _is_right(port: int, request: CheckedRequest) -> bool:
    try:
        answer = http_request(
            port, "POST", request.path, request.body, request.headers, timeout_s=_ASK_TIMEOUT_S
        )
    except (OSError, HTTPException):
        return False
    return answer.status == 200 and request.accepts(answer.body)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End it the polite way, and what is left of its process group the other way."""
    try:
        process.terminate()
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _headrace(folder: Path) -> System:
    """This project's command line, run in `folder`, where no headrace.toml can change it."""
    port, admin_port = free_port(), free_port()
    command = [
        str(Path(sys.executable).with_name("headrace")),
        "serve",
        "--models",
        str(folder / "models"),
    ]
    command += ["--model", _MODEL, "--port", str(port), "--admin-port", str(admin_port)]
    return System(HEADRACE, command, folder, port, (JSON, BINARY), "headrace ready")


def _ray_serve() -> System:
    port = free_port()
    return System(
        BASELINE, (sys.executable, "-m", "loadtests.peers.ray_serve", str(port)), ROOT, port
    )


def _mosec() -> System:
    """Raises PeerUnavailable."""
    pinned = {"mosec": _MOSEC_VERSION, "numpy": np.__version__, "orjson": orjson.__version__}
    pinned["onnxruntime"] = onnxruntime.__version__
    python = prepare(
        _ENVIRONMENTS / "mosec", [f"{name}=={version}" for name, version in pinned.items()]
    )
    port = free_port()
    options = ("--address", HOST, "--port", str(port), "--log-level", "warning")
    return System(
        f"{MOSEC} {_MOSEC_VERSION}",
        (str(python), "-m", "loadtests.peers.mosec_app", *options),
        ROOT,
        port,
    )


def run(bench: Bench) -> list[Measured]:
    """Measure everything; leaves out failing peers. Raises BenchFailed if this project fails."""
    before = measure(bench, _headrace(bench.folder))
    peers: list[Measured] = []
    for peer in (_ray_serve, _mosec):
        try:
            peers += measure(bench, peer())
        except (BenchFailed, PeerUnavailable) as error:
            err.print(f"bench: left out {peer.__name__.strip('_')}: {error}", markup=False)
    limit = measure_limit(bench.model, bench.seconds)
    after = measure(bench, _headrace(bench.folder))
    return [*merge(before, after), *peers, *limit]


def show(measured: Iterable[Measured], seconds: int) -> None:
    table = Table("system", "body", box=None)
    for heading in ("connections", "requests/s", "p50", "p99", f"to {BASELINE}"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cells in table_rows(measured):
        table.add_row(*cells)
    out.print(table)
    out.print(
        f"{seconds} s each, wrk with one thread, loopback, {os.cpu_count()} cores, one image a "
        "request."
    )
    out.print(
        f"{HEADRACE}: mean of a run before the peers and one after, ± half their difference; "
        "the worse latencies."
    )
    out.print(
        f"{BASELINE}: as its documentation writes it (loadtests/peers/ray_serve.py), asked "
        "with JSON."
    )
    out.print(
        f"{LIMIT}: the model alone in this process, on one core; images/s, and the time of a batch."
    )


def main(
    seconds: Annotated[
        int, typer.Option(min=1, max=60, help="How long each measurement takes.")
    ] = 5,
) -> None:
    """Measure this project beside its peers and print one table.

    Example: python -m loadtests.bench --seconds 3
    """
    if shutil.which("wrk") is None:
        _fail("wrk is missing; on Debian: apt-get install wrk", 2)
    # As Ctrl-C: the children are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as temporary,
        Progress(*columns, console=err) as progress,
    ):
        folder = Path(temporary)
        model = folder / f"{_MODEL}.onnx"
        write_cnn(model)
        add(model, _MODEL, folder / "models")
        try:
            measured = run(Bench(folder, model, make_requests(model), seconds, progress))
        except BenchFailed as error:
            _fail(str(error), 1)
    show(measured, seconds)


def _fail(reason: str, status: int) -> NoReturn:
    err.print(f"bench: {reason}", markup=False)
    raise typer.Exit(status)


if __name__ == "__main__":
    typer.run(main)
