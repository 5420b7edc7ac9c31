"""The Serve deployment around a gateway, which owns its listening socket and follows the fleet."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ray import serve

from headrace.edge.limits import ENDED_S
from headrace.fleet.calls import change_logging, report_ended
from headrace.fleet.entries import Fleet
from headrace.fleet.loopback import keep_calls_local
from headrace.fleet.membership import Membership, node_address, process_entry
from headrace.gateway.program import GatewayConfig, GatewayHandle, serve_gateway
from headrace.process.guardian import Guardian
from headrace.process.loop_thread import LoopThread
from headrace.telemetry import logs

__all__ = ["GatewayReplica"]

START_TIMEOUT_S = 30.0
APPLY_TIMEOUT_S = 3.0


class GatewayReplica:
    """One gateway process; its node and address are found where it runs."""

    def __init__(self, config: GatewayConfig, is_alone: bool) -> None:
        logs.configure("gateway")
        keep_calls_local()
        process_id = serve.get_replica_context().replica_id.unique_id
        node, address = node_address(is_alone)
        config = replace(config, node=node, address=address)
        self._shutdown_delay_s = config.settings.shutdown_delay_s
        obituaries = ThreadPoolExecutor(1, thread_name_prefix="obituaries")

        def ended(replica: str) -> None:
            obituaries.submit(report_ended, replica)

        self._thread: LoopThread[GatewayHandle] = LoopThread(
            "gateway", lambda ready, stop: serve_gateway(config, ready, stop, change_logging, ended)
        )
        self._gateway = self._thread.start(START_TIMEOUT_S)
        entry = process_entry(process_id, "gateway", self._gateway.metrics)
        self._membership = Membership(entry, on_change=self._update)
        self._membership.join()
        self._guardian = Guardian()
        self._guardian.keep()

    def _update(self, fleet: Fleet) -> None:
        """Tell the gateway, and return when it acts on it, or after a moment: a replica may be slow
        to be reached.
        """

        async def apply() -> None:
            self._gateway.update(fleet)
            await self._gateway.wait_linked()

        self._thread.run(apply, APPLY_TIMEOUT_S)

    def check_health(self) -> None:
        self._guardian.keep()
        if not self._thread.is_alive:
            raise RuntimeError("the gateway has ended")

    async def __del__(self) -> None:
        """Serve awaits this at a graceful stop: say so for a while, take nothing new, answer what
        is in flight.
        """
        if not hasattr(self, "_membership"):
            return
        self._thread.stop()
        await asyncio.to_thread(self._thread.wait, self._shutdown_delay_s + ENDED_S)
        await asyncio.to_thread(self._membership.leave)
