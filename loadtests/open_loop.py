"""An open-loop driver: requests leave on schedule, whether or not earlier ones were answered.

    python -m loadtests.open_loop --model dga-lstm --rate 200 --seconds 20 --deadline 1.0

Latency counts from the moment a request was due, so that waiting behind a slow server, or in this
driver, is seen. Every scheduled request ends in exactly one column of the ledger.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from time import perf_counter
from typing import Annotated, Literal, NamedTuple, get_args

import numpy as np
import typer
import uvloop
from loadtests.inputs import CheckedRequest, is_served, requests_for
from loadtests.support.http_client import GIVEN_UP, HttpClient, Reply
from rich.console import Console

from headrace.loadtest.percentiles import percentile, percentiles
from headrace_models.errors import ModelError

__all__ = [
    "Figures",
    "Ledger",
    "Send",
    "Sent",
    "Verdict",
    "drive",
    "figures",
    "fixed_schedule",
    "measure",
    "poisson_schedule",
    "show",
    "verdict_of",
]

Verdict = Literal["right", "late", "refused", "failed", "wrong"]
_REFUSALS = (429, 503)
_TOO_LATE = (504, GIVEN_UP)
# What the driver waits beyond the deadline before it gives up on an answer.
_GRACE_S = 1.0
# The first request is due this long after the start, so that the schedule does not begin in
# arrears.
_LEAD_IN_S = 0.1
# Connections that are open before the first request; more are made as they are needed.
_CONNECTIONS = 32
_DRIVER_LATE_S = 0.005
_PERCENTS = (50, 95, 99)


Send = Callable[[CheckedRequest], Awaitable[Reply]]


class Sent(NamedTuple):
    """One request and its reply; times are seconds since the start."""

    request: CheckedRequest
    reply: Reply
    due_s: float
    sent_s: float
    ended_s: float


@dataclass
class Ledger:
    """A verdict on every request. `latencies_s` leave out refusals, which are fast."""

    counts: Counter[Verdict] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    lateness_s: list[float] = field(default_factory=list)
    last_s: float = 0.0

    def enter(self, sent: Sent, deadline_s: float) -> None:
        """Judge and count one request."""
        verdict = verdict_of(sent, deadline_s)
        self.counts[verdict] += 1
        self.lateness_s.append(sent.sent_s - sent.due_s)
        self.last_s = max(self.last_s, sent.ended_s)
        if verdict in ("right", "wrong", "late"):
            self.latencies_s.append(sent.ended_s - sent.due_s)


def verdict_of(sent: Sent, deadline_s: float) -> Verdict:
    """A right answer counts only in time; a wrong one is wrong whenever it comes."""
    status = sent.reply.status
    if status in _REFUSALS:
        return "refused"
    if status in _TOO_LATE:
        return "late"
    if status != 200:
        return "failed"
    if not sent.request.accepts(sent.reply.body):
        return "wrong"
    return "right" if sent.ended_s - sent.due_s <= deadline_s else "late"


def fixed_schedule(rate: float, seconds: float) -> list[float]:
    """Even distances: seconds after the start, `rate` of them a second."""
    return [n / rate for n in range(round(rate * seconds))]


def poisson_schedule(rate: float, seconds: float, seed: int = 0) -> list[float]:
    """Random arrivals of independent callers: exponential gaps of mean 1 / `rate`, by seed."""
    chance = np.random.default_rng(seed)
    times: list[float] = np.cumsum(chance.exponential(1 / rate, round(rate * seconds))).tolist()
    return times


async def drive(
    send: Send,
    requests: Iterable[CheckedRequest],
    schedule: Sequence[float],
    deadline_s: float,
    clock: Callable[[], float] = perf_counter,
) -> Ledger:
    """Send the requests when they are due, and return when each has its result.

    Answers are judged after the last one: reading them in between would delay what is due.
    """
    done: list[Sent] = []
    start_s = clock() + _LEAD_IN_S

    async def one(request: CheckedRequest, due_s: float) -> None:
        sent_s = clock() - start_s
        reply = await send(request)
        done.append(Sent(request, reply, due_s, sent_s, clock() - start_s))

    async with asyncio.TaskGroup() as group:
        for due_s, request in zip(schedule, requests, strict=False):
            if (wait_s := start_s + due_s - clock()) > 0:
                await asyncio.sleep(wait_s)
            group.create_task(one(request, due_s))
    ledger = Ledger()
    for sent in done:
        ledger.enter(sent, deadline_s)
    return ledger


async def measure(
    url: str, requests: Sequence[CheckedRequest], schedule: Sequence[float], deadline_s: float
) -> Ledger:
    """Drive a server over HTTP. Raises OSError if it takes no connection."""
    async with HttpClient(url, deadline_s, patience_s=deadline_s + _GRACE_S) as client:
        await client.connect(_CONNECTIONS)
        with _no_collector():
            return await drive(client.send, cycle(requests), schedule, deadline_s)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Python's collector off: its pauses would be taken for the server's."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@dataclass(frozen=True)
class Figures:
    """A ledger in numbers: answers and right ones a second, latencies at 50, 95 and 99 %."""

    scheduled: int
    counts: dict[Verdict, int]
    rate: float
    goodput: float
    percentiles_s: tuple[float, float, float]
    driver_p99_s: float

    @property
    def p99_s(self) -> float:
        return self.percentiles_s[-1]

    @property
    def is_driver_late(self) -> bool:
        """True if the driver fell so far behind its schedule that it measured itself, too."""
        return self.driver_p99_s > _DRIVER_LATE_S


def figures(ledger: Ledger, seconds: float) -> Figures:
    """Figures of a run whose schedule took `seconds`; rates count until a later last answer."""
    took_s = max(seconds, ledger.last_s)
    p50_s, p95_s, p99_s = percentiles(ledger.latencies_s, _PERCENTS)
    return Figures(
        scheduled=ledger.counts.total(),
        counts={verdict: ledger.counts[verdict] for verdict in get_args(Verdict)},
        rate=len(ledger.latencies_s) / took_s,
        goodput=ledger.counts["right"] / took_s,
        percentiles_s=(p50_s, p95_s, p99_s),
        driver_p99_s=percentile(ledger.lateness_s, 99),
    )


def show(found: Figures, console: Console) -> None:
    """Print the figures, and a warning if they are the driver's rather than the server's."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in found.counts.items())
    console.print(f"requests   {found.scheduled}: {counts}")
    console.print(
        f"rate       {found.rate:.1f}/s answered, {found.goodput:.1f}/s right and in time"
    )
    times = (
        f"p{share} {value * 1e3:.1f} ms"
        for share, value in zip(_PERCENTS, found.percentiles_s, strict=True)
    )
    console.print(f"latency    {', '.join(times)}")
    console.print(
        f"driver     99 % of the requests left within {found.driver_p99_s * 1e3:.2f} ms of "
        "their time"
    )
    if found.is_driver_late:
        console.print(
            "the driver itself was late: it had too little processor, and the latencies are "
            "too high"
        )


def main(
    model: Annotated[str, typer.Option(help="Which model of the zoo to ask.")],
    url: Annotated[str, typer.Option(help="The data port.")] = "http://127.0.0.1:8000",
    rate: Annotated[float, typer.Option(min=0.1, help="Requests a second.")] = 200.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long.")] = 20.0,
    deadline: Annotated[
        float, typer.Option(min=0.001, help="Seconds until an answer is late.")
    ] = 1.0,
    poisson: Annotated[bool, typer.Option(help="Random arrivals instead of even ones.")] = False,
    seed: Annotated[int, typer.Option(help="Of the random arrivals.")] = 0,
) -> None:
    """Send requests at a fixed rate and print what became of them."""
    console = Console(soft_wrap=True, highlight=False)
    try:
        if not is_served(url, model):
            raise ModelError(f"{model} is not served at {url}")
        requests = requests_for(model)
    except KeyError:
        raise typer.BadParameter(
            f"no requests are known for {model}", param_hint="--model"
        ) from None
    except (OSError, ModelError) as error:
        console.print(f"open_loop: {error}")
        raise typer.Exit(2) from None
    schedule = poisson_schedule(rate, seconds, seed) if poisson else fixed_schedule(rate, seconds)
    show(
        figures(uvloop.run(measure(url.rstrip("/"), requests, schedule, deadline)), seconds),
        console,
    )


if __name__ == "__main__":
    typer.run(main)
