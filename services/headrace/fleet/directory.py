"""The fleet's directory: one Ray actor that every process reports to and that gateways follow.

Reports double as heartbeats, so the directory may die and come back empty: within a period everyone has reported
again, and until then gateways keep what they know. Values cross as JSON, not as pickled objects of ours.
"""

import asyncio
from time import monotonic
from typing import Any

import ray
from pydantic import TypeAdapter

from headrace.fleet.entries import Fleet, ProcessEntry, ReplicaEntry

__all__ = ["REPORT_PERIOD_S", "connect_directory", "dump_report", "parse_fleet", "start_directory"]

NAME, NAMESPACE = "headrace-directory", "headrace"
REPORT_PERIOD_S = 1.0
# Who does not report for this long is left out. Gateways notice a dead process sooner, by its channel.
_LIFE_S = 5.0

_process = TypeAdapter(ProcessEntry)
_replica = TypeAdapter(ReplicaEntry)
_fleet = TypeAdapter(Fleet)


def dump_report(process: ProcessEntry, replica: ReplicaEntry | None) -> tuple[bytes, bytes]:
    return _process.dump_json(process), _replica.dump_json(replica) if replica else b""


def parse_fleet(text: bytes) -> Fleet:
    return _fleet.validate_json(text)


class Directory:
    """Who lives. `models` are the names that should be served."""

    def __init__(self, models: list[str]) -> None:
        self._models = tuple(models)
        self._processes: dict[str, tuple[ProcessEntry, ReplicaEntry | None, float]] = {}
        self._revision = 1
        self._changed = asyncio.Condition()

    async def expect(self, models: list[str]) -> None:
        self._models = tuple(models)
        await self._tell()

    async def report(self, process: bytes, replica: bytes) -> None:
        """A process lives, and serves `replica` if that is not empty."""
        entry = _process.validate_json(process)
        is_new = entry.id not in self._processes
        served = _replica.validate_json(replica) if replica else None
        self._processes[entry.id] = (entry, served, monotonic())
        silent = [key for key, (_, _, at) in self._processes.items() if monotonic() - at > _LIFE_S]
        for key in silent:
            del self._processes[key]
        if is_new or silent:
            await self._tell()

    async def leave(self, process_id: str) -> None:
        if self._processes.pop(process_id, None):
            await self._tell()

    async def follow(self, revision: int, timeout_s: float) -> bytes:
        """The fleet as JSON, at once if it is not at `revision`, else when it changes or the time is up."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self._revision != revision)
        except TimeoutError:
            pass
        members = list(self._processes.values())
        replicas = tuple(replica for _, replica, _ in members if replica)
        return _fleet.dump_json(Fleet(self._revision, self._models, replicas, tuple(p for p, _, _ in members)))

    async def _tell(self) -> None:
        async with self._changed:
            self._revision += 1
            self._changed.notify_all()


def start_directory(models: list[str]) -> None:
    """Start the directory, or tell the one that runs which models are expected."""
    options = {"name": NAME, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    actor: Any = (
        ray.remote(Directory)
        .options(**options, num_cpus=0, max_restarts=-1, max_task_retries=3, max_concurrency=1000)
        .remote(models)
    )
    ray.get(actor.expect.remote(models), timeout=60)


def connect_directory() -> Any:  # noqa: ANN401 - Ray's handles have their methods at run time only
    return ray.get_actor(NAME, namespace=NAMESPACE)
