"""A process's membership: it reports to the directory as long as it lives, and may follow the fleet."""

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress

import ray
from ray.exceptions import RayError

from headrace.fleet.directory import REPORT_PERIOD_S, connect_directory, dump_report, parse_fleet
from headrace.fleet.entries import Fleet, ProcessEntry, ReplicaEntry

__all__ = ["Membership", "node_address", "process_entry"]

log = logging.getLogger(__name__)

_CALL_TIMEOUT_S = 10.0
_FOLLOW_S = 5.0


def node_address(is_alone: bool) -> tuple[str, str]:
    """This node's id and the address for others to reach it: loopback when it is the only one, else its own."""
    node = ray.get_runtime_context().get_node_id()
    if is_alone:
        return node, "127.0.0.1"
    nodes = ray.nodes()  # type: ignore[no-untyped-call] # Ray's own lack of types
    return node, next(str(n["NodeManagerAddress"]) for n in nodes if n["NodeID"] == node)


def process_entry(process_id: str, role: str, metrics: str) -> ProcessEntry:
    return ProcessEntry(process_id, role, metrics, os.getpid(), ray.get_runtime_context().get_node_id())


class Membership:
    """Reports in one thread; with `on_change`, follows the fleet in another and calls it with every new state."""

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

    def join(self) -> None:
        threading.Thread(target=self._report, name="membership", daemon=True).start()
        if self._on_change:
            threading.Thread(target=self._follow, name="fleet", daemon=True).start()

    def leave(self) -> None:
        self._ended.set()
        with suppress(RayError, ValueError, TimeoutError):
            ray.get(connect_directory().leave.remote(self._process.id), timeout=_CALL_TIMEOUT_S)

    def _report(self) -> None:
        process, replica = dump_report(self._process, self._replica)
        while not self._ended.is_set():
            try:
                ray.get(connect_directory().report.remote(process, replica), timeout=_CALL_TIMEOUT_S)
            except (RayError, ValueError, TimeoutError) as error:
                log.warning("the directory did not take a report: %s", type(error).__name__)
            self._ended.wait(REPORT_PERIOD_S)

    def _follow(self) -> None:
        assert self._on_change is not None
        revision = 0
        while not self._ended.is_set():
            try:
                answer = connect_directory().follow.remote(revision, _FOLLOW_S)
                fleet = parse_fleet(ray.get(answer, timeout=_FOLLOW_S + _CALL_TIMEOUT_S))
            except (RayError, ValueError, TimeoutError) as error:
                log.warning("the directory does not answer: %s", type(error).__name__)
                revision = 0
                self._ended.wait(REPORT_PERIOD_S)
                continue
            if fleet.revision != revision:
                revision = fleet.revision
                self._on_change(fleet)
