"""A process's membership of the fleet: it reports to the directory, and may follow the fleet."""

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress

import ray

from headrace.errors import HeadraceError
from headrace.fleet.calls import call_directory, report_dead
from headrace.fleet.directory import REPORT_PERIOD_S, as_fleet, as_logging, as_process, as_replica
from headrace.fleet.entries import Fleet, ProcessEntry, ReplicaEntry
from headrace.telemetry import logs

__all__ = ["Membership", "node_address", "process_entry"]

log = logging.getLogger(__name__)

_FOLLOW_S = 5.0


def node_address(is_alone: bool) -> tuple[str, str]:
    """This node's id, and its address for others: loopback if it is the only node."""
    node = ray.get_runtime_context().get_node_id()
    if is_alone:
        return node, "127.0.0.1"
    nodes = ray.nodes()  # type: ignore[no-untyped-call] # Ray's own lack of types
    return node, next(str(n["NodeManagerAddress"]) for n in nodes if n["NodeID"] == node)


def process_entry(process_id: str, role: str, metrics: str) -> ProcessEntry:
    return ProcessEntry(
        process_id, role, metrics, os.getpid(), ray.get_runtime_context().get_node_id()
    )


class Membership:
    """Reports in one thread; with `on_change`, follows the fleet in another and passes it on.

    `on_change` returns when the process acts on that state, which the directory then learns. Log
    settings are applied here. A follower also reports processes of its node that have died.
    """

    def __init__(
        self,
        process: ProcessEntry,
        replica: ReplicaEntry | None = None,
        on_change: Callable[[Fleet], None] | None = None,
    ) -> None:
        self._process = process
        self._replica = replica
        self._on_change = on_change
        self._ended = threading.Event()
        self._reporter = threading.Thread(target=self._report, name="membership", daemon=True)

    def join(self) -> None:
        self._reporter.start()
        if self._on_change:
            threading.Thread(target=self._follow, name="fleet", daemon=True).start()

    def leave(self, reason: str = "") -> None:
        """Leave the fleet, for a `reason` if no operator asked for it.

        After this, gateways send a replica nothing more.
        """
        self._ended.set()
        # A report after the goodbye would be taken for a new process.
        self._reporter.join(REPORT_PERIOD_S)
        with suppress(HeadraceError):
            call_directory("leave", self._process.id, reason)

    def _report(self) -> None:
        process = as_process.dump_json(self._process)
        replica = as_replica.dump_json(self._replica) if self._replica else b""
        while not self._ended.is_set():
            try:
                logs.apply(as_logging.validate_json(call_directory("report", process, replica)))
            except HeadraceError as error:
                log.warning("could not report to the directory: %s", error)
            self._ended.wait(REPORT_PERIOD_S)

    def _follow(self) -> None:
        assert self._on_change is not None
        revision = 0
        while not self._ended.is_set():
            try:
                document = call_directory(
                    "follow", revision, _FOLLOW_S, self._process.id, wait_s=_FOLLOW_S
                )
            except HeadraceError as error:
                log.warning("could not follow the fleet: %s", error)
                revision = 0
                self._ended.wait(REPORT_PERIOD_S)
                continue
            fleet = as_fleet.validate_json(document)
            if fleet.revision != revision:
                revision = fleet.revision
                logs.apply(fleet.logging)
                self._on_change(fleet)
            report_dead(p for p in fleet.processes if p.node == self._process.node)
