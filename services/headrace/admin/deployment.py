"""The Serve deployment of the admin port: one process for the platform."""

import asyncio
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from ray import serve

from headrace.admin.pages import AdminPages
from headrace.admin.repository import Desk
from headrace.fleet.calls import change_logging, give_order
from headrace.fleet.entries import Fleet
from headrace.fleet.membership import Membership, node_address, process_entry
from headrace.http_server import listen, run_http
from headrace.loop_thread import LoopThread
from headrace.telemetry import logs
from headrace.telemetry.exposition import expose

__all__ = ["AdminReplica"]

START_TIMEOUT_S = 30.0


class AdminReplica:
    def __init__(self, host: str, port: int, is_alone: bool) -> None:
        logs.configure("admin")
        process_id = serve.get_replica_context().replica_id.unique_id
        _, address = node_address(is_alone)
        self._pages = AdminPages(Desk(lambda: self._pages.fleet, give_order, change_logging))

        async def main(ready: Callable[[str], None], stop: asyncio.Event) -> None:
            sock = listen(host, port)
            with expose(CollectorRegistry(), address) as metrics:
                ready(metrics)
                await run_http(self._pages, sock, stop)

        self._thread: LoopThread[str] = LoopThread("admin", main)
        metrics = self._thread.start(START_TIMEOUT_S)
        self._membership = Membership(process_entry(process_id, "admin", metrics), on_change=self._update)
        self._membership.join()

    def _update(self, fleet: Fleet) -> None:
        self._pages.fleet = fleet

    def check_health(self) -> None:
        if not self._thread.is_alive:
            raise RuntimeError("the admin port has ended")

    async def __del__(self) -> None:
        if not hasattr(self, "_membership"):
            return
        self._thread.stop()
        await asyncio.to_thread(self._thread.wait, START_TIMEOUT_S)
        await asyncio.to_thread(self._membership.leave)
