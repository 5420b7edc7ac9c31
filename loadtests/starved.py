"""Statuses that an open loop of callers sees on a starved machine, or when a replica is killed.

    python -m loadtests.starved --model dga-lstm --loops 8
    python -m loadtests.starved --model dga-lstm --loops 0 --kill-at 5

The first runs busy loops at nice 0 beside the platform; the second kills the model's replicas after
5 s. The platform runs on this machine, and its admin port names its processes.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Annotated, NamedTuple

import typer
import uvloop
from loadtests.inputs import CheckedRequest, requests_for
from loadtests.open_loop import fixed_schedule
from loadtests.support.http_client import HttpClient
from loadtests.support.http_request import http_request
from rich.console import Console

from headrace.loadtest.percentiles import percentiles

MAX_SECONDS, MAX_RATE, MAX_LOOPS = 300, 200, 64


class _Sent(NamedTuple):
    """An answer's status (0: broken, -1: none came), when it was due, and how long it took."""

    status: int
    due_s: float
    took_s: float


@contextmanager
def busy(loops: int, seconds: float) -> Iterator[None]:
    """So many processes that do nothing but run, as any other does; they end by themselves, too."""
    code = (
        f"from time import monotonic\nend = monotonic() + {seconds}\nwhile monotonic() < end: pass"
    )
    processes = [subprocess.Popen([sys.executable, "-I", "-S", "-c", code]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def replicas_of(admin: str, model: str) -> list[int]:
    """The processes that serve a model."""
    health = http_request(admin, "GET", "/healthz", timeout_s=10).json
    ids = {replica["id"] for replica in health["replicas"] if replica["model"] == model}
    return [int(process["pid"]) for process in health["processes"] if process["id"] in ids]


def main(
    model: Annotated[str, typer.Option()] = "dga-lstm",
    rate: Annotated[float, typer.Option(min=0.1, max=MAX_RATE)] = 20.0,
    seconds: Annotated[float, typer.Option(min=1, max=MAX_SECONDS)] = 60.0,
    deadline: Annotated[float, typer.Option(min=0.1, max=300)] = 30.0,
    loops: Annotated[int, typer.Option(min=0, max=MAX_LOOPS)] = 8,
    kill_at: Annotated[
        float | None, typer.Option(help="Kill the model's replicas after so many seconds.")
    ] = None,
    url: Annotated[str, typer.Option()] = "http://127.0.0.1:8000",
    admin: Annotated[str, typer.Option()] = "127.0.0.1:8001",
) -> None:
    """Send on schedule and count the statuses; exit 1 if one is not 200."""
    pids = replicas_of(admin, model)
    with busy(loops, seconds + deadline):
        sent = uvloop.run(_ask(url, model, rate, seconds, deadline, (kill_at, pids)))
    console = Console(soft_wrap=True, highlight=False)
    p50_s, p99_s, most_s = percentiles([one.took_s for one in sent], (50, 99, 100))
    failed = sorted(one.due_s for one in sent if one.status != 200)
    console.print(f"{len(sent)} sent, by status: {dict(Counter(one.status for one in sent))}")
    console.print(f"p50 {p50_s:.3f} s, p99 {p99_s:.3f} s, worst {most_s:.3f} s")
    if failed:
        console.print(f"failed: those due from {failed[0]:.1f} s to {failed[-1]:.1f} s")
        raise SystemExit(1)


async def _ask(
    url: str,
    model: str,
    rate: float,
    seconds: float,
    deadline_s: float,
    kill: tuple[float | None, list[int]],
) -> list[_Sent]:
    kill_at_s, pids = kill
    loop = asyncio.get_running_loop()
    if kill_at_s is not None:
        for pid in pids:
            loop.call_later(kill_at_s, os.kill, pid, signal.SIGKILL)
    sent: list[_Sent] = []
    start_s = loop.time() + 0.1

    async def one(client: HttpClient, request: CheckedRequest, due_s: float) -> None:
        await asyncio.sleep(start_s + due_s - loop.time())
        reply = await client.send(request)
        sent.append(_Sent(reply.status, due_s, loop.time() - start_s - due_s))

    async with (
        HttpClient(url, deadline_s, patience_s=deadline_s + 5) as client,
        asyncio.TaskGroup() as group,
    ):
        for due_s, request in zip(
            fixed_schedule(rate, seconds), cycle(requests_for(model)), strict=False
        ):
            group.create_task(one(client, request, due_s))
    return sent


if __name__ == "__main__":
    typer.run(main)
