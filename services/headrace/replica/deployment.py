"""The Serve deployment around a host: Serve starts, watches and stops it; requests come by the channel."""

import asyncio
import os
import tempfile
from pathlib import Path

from ray import serve

from headrace.fleet.entries import ReplicaEntry
from headrace.fleet.membership import Membership, node_address, process_entry
from headrace.loop_thread import LoopThread
from headrace.replica.serving import ReplicaOrder, Serving, serve_replica
from headrace.telemetry import logs

__all__ = ["ModelReplica"]

LOAD_TIMEOUT_S = 300.0
DRAIN_TIMEOUT_S = 25.0


class ModelReplica:
    """One replica process of one model version."""

    def __init__(self, folder: str, backend: str, token: str, is_alone: bool) -> None:
        logs.configure("replica")
        process_id = serve.get_replica_context().replica_id.unique_id
        node, host = node_address(is_alone)
        order = ReplicaOrder(folder, backend, node, host, _socket_path(process_id), token)
        self._thread: LoopThread[Serving] = LoopThread("replica", lambda ready, stop: serve_replica(order, ready, stop))
        self._serving = self._thread.start(LOAD_TIMEOUT_S)
        replica = ReplicaEntry(
            process_id, self._serving.version.spec, self._serving.labels, self._serving.address, backend
        )
        self._membership = Membership(process_entry(process_id, "replica", self._serving.metrics), replica)
        self._membership.join()

    def check_health(self) -> None:
        """Serve replaces a replica whose thread has ended or that no inference has proven lately."""
        if not self._thread.is_alive or not self._serving.is_ready():
            raise RuntimeError("the model does not answer")

    async def __del__(self) -> None:
        """Serve awaits this at a graceful stop: leave the fleet, then answer all that was accepted."""
        if not hasattr(self, "_membership"):
            return
        await asyncio.to_thread(self._membership.leave)
        self._thread.stop()
        await asyncio.to_thread(self._thread.wait, DRAIN_TIMEOUT_S)


def _socket_path(process_id: str) -> str:
    """A short path, for a Unix socket's is 107 bytes at most, in a folder that is ours alone."""
    folder = Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return str(folder / f"{process_id}.sock")
