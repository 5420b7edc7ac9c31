"""The Serve deployment of the admin port: one process for the platform."""

import asyncio
from dataclasses import replace

from ray import serve

from headrace.admin.program import AdminConfig, serve_admin
from headrace.admin.repository import AdminContext
from headrace.fleet.calls import change_logging, give_instruction
from headrace.fleet.entries import Fleet
from headrace.fleet.loopback import keep_calls_local
from headrace.fleet.membership import Membership, node_address, process_entry
from headrace.process.guardian import Guardian
from headrace.process.loop_thread import LoopThread
from headrace.telemetry import logs

__all__ = ["AdminReplica"]

START_TIMEOUT_S = 30.0


class AdminReplica:
    """The admin process, which learns its address from its node."""

    def __init__(self, config: AdminConfig, is_alone: bool) -> None:
        logs.configure("admin")
        keep_calls_local()
        process_id = serve.get_replica_context().replica_id.unique_id
        config = replace(config, address=node_address(is_alone)[1])
        self._fleet = Fleet(0, (), (), ())
        context = AdminContext(
            lambda: self._fleet, give_instruction, change_logging, config.readers.token
        )
        self._thread: LoopThread[str] = LoopThread(
            "admin", lambda ready, stop: serve_admin(config, context, ready, stop)
        )
        metrics = self._thread.start(START_TIMEOUT_S)
        self._membership = Membership(
            process_entry(process_id, "admin", metrics), on_change=self._update
        )
        self._membership.join()
        self._guardian = Guardian()
        self._guardian.keep()

    def _update(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def check_health(self) -> None:
        self._guardian.keep()
        if not self._thread.is_alive:
            raise RuntimeError("the admin port has ended")

    async def __del__(self) -> None:
        if not hasattr(self, "_membership"):
            return
        self._thread.stop()
        await asyncio.to_thread(self._thread.wait, START_TIMEOUT_S)
        await asyncio.to_thread(self._membership.leave)
