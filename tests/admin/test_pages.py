"""The metrics of all processes on one page, even if some processes do not answer well."""

import asyncio
import socket
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry, Counter

from headrace.admin.pages import metrics
from headrace.admin.repository import AdminContext
from headrace.edge.exchange import Call, Exchange
from headrace.edge.metrics import expose
from headrace.edge.readers import Readers
from headrace.fleet.entries import Fleet, ProcessEntry
from headrace.fleet.instructions import IndexEntry, Instruction
from headrace.telemetry.exposition import Page, Render, render_of
from headrace.telemetry.logs import LogSettings

NETWORK = "0.0.0.0"


async def no_order(_: Instruction) -> tuple[IndexEntry, ...]:
    return ()


async def no_change(settings: LogSettings) -> LogSettings:
    return settings


def counting() -> Render:
    registry = CollectorRegistry()
    Counter("mine", "Mine.", registry=registry).inc()
    return render_of(registry)


def broken(*_: object) -> Page:
    raise OSError("no page today")


async def page_of(*targets: str, token: str = "the token") -> list[str]:
    processes = tuple(
        ProcessEntry(str(n), "gateway", target, 1, "here") for n, target in enumerate(targets)
    )
    context = AdminContext(lambda: Fleet(1, (), (), processes), no_order, no_change, token)
    async with asyncio.timeout(20):
        response = await metrics(Call(context, Exchange("GET", {}, "", 0), b""))
    return [line for line in response.body.decode().splitlines() if line.startswith("mine_total")]


async def test_the_page_merges_all_pages_that_were_scraped() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deserted:
        nobody = f"127.0.0.1:{deserted.getsockname()[1]}"
    async with AsyncExitStack() as stack:
        own = [
            await stack.enter_async_context(expose(counting(), NETWORK, Readers("the token"))),
            await stack.enter_async_context(expose(counting(), NETWORK, Readers("another token"))),
            await stack.enter_async_context(expose(broken, "127.0.0.1", Readers())),
            await stack.enter_async_context(expose(counting(), "127.0.0.1", Readers())),
        ]
        assert await page_of(*own, nobody) == [
            'mine_total{process="gateway-0"} 1.0',
            'mine_total{process="gateway-3"} 1.0',
        ]
