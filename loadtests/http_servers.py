"""The HTTP servers that this project could stand on, beside its own: one table, one machine, one
run.

    python -m loadtests.http_servers

The same trivial application on each, in an environment and a process of its own. First the
catalogue of bad HTTP (loadtests/support/bad_inputs/a_*.yaml), as far as it is the server's
business: how many cases have the status that is expected and leave the connection as it should be.
Then requests a second and the median latency with wrk, as ratios to this project's own, medians of
runs that were taken alternately. Needs Debian's wrk; a server that cannot be had is left out.
"""

import http.client
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Annotated, Literal

import orjson
import typer
from loadtests.bench import Figures, read_wrk
from loadtests.peers.environment import PeerUnavailable
from loadtests.peers.http_hosts import OURS, SERVERS, Server, running
from loadtests.support.bad_inputs.builders import build
from loadtests.support.bad_inputs.catalogue import CASES, NO_ANSWER, Case
from loadtests.support.ports import HOST
from loadtests.support.raw_http import call
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

__all__ = ["FAMILIES", "family", "is_as_expected"]

CONNECTIONS = (1, 64)
BODIES: Mapping[str, bytes] = {
    "JSON, 200 B": orjson.dumps({"input": "a" * 188}),
    "binary, 3 KB": bytes(3072),
}
# What a server says, or would have to; codes of routes and models are none of its business.
SERVER_CODES = {
    "ambiguous_length",
    "bad_chunk",
    "bad_framing",
    "bad_host",
    "bad_target",
    "body_too_large",
}
SERVER_CODES |= {
    "body_truncated",
    "expectation_failed",
    "headers_too_large",
    "http_version_not_supported",
}
SERVER_CODES |= {"method_not_implemented", "request_timeout", "too_many_chunks", "uri_too_long"}
# Cases beyond these came later than the figures in docs/http-server.md.
FAMILIES = {
    "framing": range(1, 10),
    "heads": range(10, 16),
    "limits": range(16, 24),
    "time": range(24, 31),
}

_POST = Path(__file__).parent / "peers" / "post.lua"
_CALLERS = 16
_HEAVY_BYTES = 150_000
_WRK_GRACE_S = 30.0

out = Console(soft_wrap=True, highlight=False, width=140)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def family(case: Case) -> str | None:
    """The part of the catalogue that a case is in; None if routes or models decide its answer."""
    is_servers = case.status[0] in (200, NO_ANSWER) or SERVER_CODES & set(case.code)
    if not case.id.startswith("A") or not is_servers or "not_found" in case.code:
        return None
    number = int(case.id[1:3])
    return next((name for name, numbers in FAMILIES.items() if number in numbers), None)


def is_as_expected(port: int, case: Case) -> bool:
    """True if the catalogue allows the status, and the connection's state afterwards."""
    probes: dict[str, Literal["again", "end", "none"]] = {
        "open": "again",
        "close": "end",
        "either": "none",
    }
    try:
        answer = call(port, build(case.send), case.then, probes[case.connection])
    except (OSError, http.client.HTTPException, ValueError):
        return False
    if answer.status not in case.status or (
        case.interim is not None and answer.had_interim != case.interim
    ):
        return False
    if case.connection == "either" or answer.status == NO_ANSWER:
        return True
    return answer.is_open == (case.connection == "open") and not answer.rest


def count_right(server: Server) -> dict[str, tuple[int, int]]:
    """For each family how many cases are as expected, and of how many."""
    asked: Counter[str] = Counter(filter(None, map(family, CASES)))
    right: Counter[str] = Counter()
    for is_impatient in (False, True):
        cases = [
            case for case in CASES if family(case) and (case.at == "impatient") == is_impatient
        ]
        heavy = [case for case in cases if len(build(case.send)) > _HEAVY_BYTES]
        light = [case for case in cases if case not in heavy]
        # What occupies a server for long has one to itself, so that it spoils no other case.
        for some in (light, *([case] for case in heavy)):
            with (
                running(server, is_impatient=is_impatient) as port,
                ThreadPoolExecutor(_CALLERS) as callers,
            ):
                found = callers.map(lambda case, port=port: is_as_expected(port, case), some)
                right.update(
                    str(family(case))
                    for case, is_right in zip(some, found, strict=True)
                    if is_right
                )
    return {name: (right[name], asked[name]) for name in FAMILIES}


def drive(server: Server, folder: Path, seconds: int) -> dict[tuple[str, int], Figures]:
    """Requests a second and latency for each body and number of connections."""
    found = {}
    with running(server) as port:
        for body, content in BODIES.items():
            file = folder / "body"
            file.write_bytes(content)
            for connections in CONNECTIONS:
                load = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(_POST)]
                command = [*load, f"http://{HOST}:{port}/", "--", str(file)]
                ended = subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    timeout=seconds + _WRK_GRACE_S,
                    check=False,
                )
                found[body, connections] = read_wrk(ended.stdout + ended.stderr)
    return found


def show(
    right: Mapping[str, Mapping[str, tuple[int, int]]],
    driven: Mapping[str, Sequence[Mapping[tuple[str, int], Figures]]],
) -> None:
    columns = [(body, connections) for body in BODIES for connections in CONNECTIONS]
    table = Table("server", *FAMILIES, *(f"{body}, {c} conn." for body, c in columns), box=None)
    for name, counts in right.items():
        cells = ["{}/{}".format(*counts[part]) for part in FAMILIES]
        for column in columns:
            runs = list(zip(driven[name], driven[OURS], strict=True))
            rate = median(run[column].rate / ours[column].rate for run, ours in runs)
            p50 = median(run[column].p50_s / ours[column].p50_s for run, ours in runs)
            mine = f"{median(run[column].rate for run, _ in runs):,.0f}/s"
            cells.append(mine if name == OURS else f"{rate:.2f}x, p50 {p50:.2f}x")
        table.add_row(name, *cells)
    out.print(table)
    out.print(
        "Cases of the catalogue that are answered as expected; then requests/s and p50 as "
        "ratios to ours."
    )


def main(
    seconds: Annotated[
        int, typer.Option(min=1, max=30, help="How long each measurement takes.")
    ] = 2,
    rounds: Annotated[int, typer.Option(min=1, max=10, help="How often each is repeated.")] = 3,
) -> None:
    """Measure HTTP servers beside this project's own and print one table.

    Example: python -m loadtests.http_servers --seconds 1 --rounds 1
    """
    if shutil.which("wrk") is None:
        err.print("http_servers: wrk is missing; on Debian: apt-get install wrk")
        raise typer.Exit(2)
    right: dict[str, dict[str, tuple[int, int]]] = {}
    driven: dict[str, list[dict[tuple[str, int], Figures]]] = {}
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="http-") as temporary,
        Progress(*columns, console=err) as progress,
    ):
        task = progress.add_task("", total=len(SERVERS) * (1 + rounds))
        for server in SERVERS:
            progress.update(task, description=f"{server.name}: bad inputs", advance=1)
            try:
                right[server.name] = count_right(server)
            except PeerUnavailable as error:
                err.print(f"http_servers: left out {server.name}: {error}", markup=False)
        for _ in range(rounds):
            for server in (s for s in SERVERS if s.name in right):
                progress.update(task, description=f"{server.name}: wrk", advance=1)
                driven.setdefault(server.name, []).append(drive(server, Path(temporary), seconds))
    show(right, driven)


if __name__ == "__main__":
    typer.run(main)
