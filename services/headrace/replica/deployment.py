"""The Serve deployment of a replica: Serve runs it, and requests use the channel."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from ray import serve

from headrace.edge.readers import Readers
from headrace.errors import HeadraceError
from headrace.fleet.calls import begin_start, read_fleet, report_ended
from headrace.fleet.entries import ProcessEntry, ReplicaEntry
from headrace.fleet.loopback import keep_calls_local
from headrace.fleet.membership import Membership, node_address, process_entry
from headrace.process.guardian import Guardian
from headrace.process.loop_thread import LoopThread
from headrace.process.own_folder import own_folder
from headrace.replica.program import ReplicaConfig, ReplicaHandle, serve_replica
from headrace.replica.readiness import PROOF_LIFE_S
from headrace.replica.successors import FIND_S, HAND_OVER_S, Successor
from headrace.telemetry import logs
from headrace_models.errors import ModelError
from headrace_models.spec import BackendName

__all__ = ["ModelReplica"]

LOAD_TIMEOUT_S = 300.0
DRAIN_TIMEOUT_S = 25.0

_NOT_READY = (
    f"no inference has succeeded for {PROOF_LIFE_S:g} s, or the model did not end on its golden row"
)


class ModelReplica:
    """One replica process of one model version."""

    def __init__(
        self, folder: str, backend: BackendName, token: str, readers: Readers, is_alone: bool
    ) -> None:
        logs.configure("replica")
        keep_calls_local()
        process_id = serve.get_replica_context().replica_id.unique_id
        node, host = node_address(is_alone)
        config = ReplicaConfig(
            folder=folder,
            backend=backend,
            node=node,
            host=host,
            unix=str(own_folder() / f"{process_id}.sock"),
            token=token,
            is_alone=is_alone,
            readers=readers,
        )
        self._thread: LoopThread[ReplicaHandle] = LoopThread(
            "replica",
            lambda ready, stop: serve_replica(
                config, ready, stop, find_successors=self._find_successors
            ),
        )
        self._process_id = process_id
        self._handle = self._start(process_entry(process_id, "replica", ""), Path(folder))
        replica = ReplicaEntry(
            id=process_id,
            spec=self._handle.version.spec,
            labels=self._handle.labels,
            address=self._handle.address,
            backend=backend,
        )
        self._membership = Membership(
            process_entry(process_id, "replica", self._handle.metrics), replica
        )
        self._membership.join()
        self._guardian = Guardian()
        self._guardian.keep()

    def _start(self, process: ProcessEntry, folder: Path) -> ReplicaHandle:
        """Load the model, after a delay if it died lately; report a failure to the fleet."""
        begin_start(process, folder.parent.name, folder.name)
        try:
            return self._thread.start(LOAD_TIMEOUT_S)
        except Exception as error:
            is_ours = isinstance(error, HeadraceError | ModelError)
            report_ended(
                process.id, f"it does not start: {error}" if is_ours else "it does not start"
            )
            raise

    @property
    def _reason(self) -> str:
        """The reason why the model does not answer; empty if it does."""
        if not self._thread.is_alive:
            return "it stopped serving"
        return "" if self._handle.is_ready() else _NOT_READY

    def check_health(self) -> None:
        """Raise if Serve is to replace this replica, as it has ended or is not ready."""
        self._guardian.keep()
        if self._reason:
            raise RuntimeError("the model does not answer")

    async def __del__(self) -> None:
        """Hand the sequences over, leave the fleet, and answer the rest.

        Serve awaits this on a graceful stop. Gateways close their channel to a replica that has
        left, so it leaves after the handover.
        """
        if not hasattr(self, "_membership"):
            return
        reason = self._reason
        await asyncio.to_thread(self._thread.run, self._handle.go_away, FIND_S + HAND_OVER_S)
        await asyncio.to_thread(self._membership.leave, reason)
        self._thread.stop()
        await asyncio.to_thread(self._thread.wait, DRAIN_TIMEOUT_S)

    async def _find_successors(self) -> Sequence[Successor]:
        """The other replicas of this model that the fleet knows."""
        name = self._handle.version.spec.name
        fleet = await asyncio.to_thread(read_fleet)
        others = (r for r in fleet.replicas if r.spec.name == name and r.id != self._process_id)
        return [Successor(other.id, other.address, other.spec.version) for other in others]
