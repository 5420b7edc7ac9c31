"""Which replica answers: the newest ready version, and in it the replica with the least outstanding work."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Protocol, TypeVar

from headrace.channel import ReplicaClient, connect
from headrace.errors import (
    DeadlineExceeded,
    NotReady,
    Overloaded,
    ReplicaLost,
    ShuttingDown,
    UnknownModel,
    UnknownVersion,
)
from headrace.fleet.entries import Fleet, ReplicaEntry
from headrace.gateway.quarantine import Quarantine
from headrace.gateway.steps import Steps
from headrace.gateway.wire import Codec
from headrace.telemetry.events import GatewayEvents
from headrace.tensor import Answer, Request, SequenceStep
from headrace_models.repository import version_order
from headrace_models.spec import ModelSpec

__all__ = ["Busy", "Router", "Version", "least_busy"]

log = logging.getLogger(__name__)

_RECONNECT_S = (0.05, 0.2, 1.0)
# Repeats after a lost replica may be at most this share of all requests, and always this many.
_RETRY_SHARE = 0.1
_RETRY_FLOOR = 10.0
# Of one request. Repeats of what surely did not run are not of that share, as nothing is done twice.
_MAX_REPEATS = 3


@dataclass(eq=False)
class Version:
    """One version of a model: its spec, the classes of its labelled output, and its wire format.

    `members` are its replicas in the fleet, `replicas` those of them that a channel leads to now.
    """

    spec: ModelSpec
    labels: tuple[str, ...]
    codec: Codec
    backend: str
    members: set[str] = field(default_factory=set)
    replicas: dict[str, ReplicaClient] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        return any(r.is_ready for r in self.replicas.values())


class Busy(Protocol):
    @property
    def outstanding(self) -> int:
        """Requests that it was asked and has not answered."""


B = TypeVar("B", bound=Busy)


def least_busy(ready: Sequence[B]) -> B:
    """The replica with the fewest requests outstanding; the first of those alike."""
    return min(ready, key=lambda replica: replica.outstanding) if len(ready) > 1 else ready[0]


class Router:
    """Keeps one channel to every replica of the fleet, and sends each request to the best of them."""

    def __init__(self, node: str, token: str, events: GatewayEvents) -> None:
        self._node = node
        self._token = token
        self._events = events
        self._expected: frozenset[str] = frozenset()
        self._models: dict[str, dict[str, Version]] = {}  # versions newest first
        self._links: dict[str, asyncio.Task[None]] = {}
        self._tries: dict[str, asyncio.Event] = {}  # of each link: set once it is up or has failed once
        self._retiring: set[asyncio.Task[None]] = set()
        self._retry_tokens = _RETRY_FLOOR
        self._quarantine = Quarantine(events)
        self._steps = Steps(self._models, self._quarantine)

    def update(self, fleet: Fleet) -> None:
        """Follow the fleet: open channels to what is new, close those to what left."""
        self._expected = frozenset(fleet.models)
        entries = {entry.id: entry for entry in fleet.replicas}
        for gone in self._links.keys() - entries.keys():
            self._tries.pop(gone).set()
            self._links.pop(gone).cancel()
        for entry_id in entries.keys() - self._links.keys():
            tried = self._tries[entry_id] = asyncio.Event()
            self._links[entry_id] = asyncio.create_task(self._link(entries[entry_id], tried))

    async def settle(self) -> None:
        """Wait until every replica that the fleet has told of is in use, or could not be reached at the first try."""
        for tried in list(self._tries.values()):
            await tried.wait()

    async def close(self) -> None:
        links = list(self._links.values())
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        await asyncio.gather(*self._retiring, return_exceptions=True)

    @property
    def is_ready(self) -> bool:
        """Every model that should be served has a replica that can answer now."""
        return bool(self._expected) and all(self._is_model_ready(name) for name in self._expected)

    def _is_model_ready(self, name: str) -> bool:
        return any(v.is_ready for v in self._models.get(name, {}).values())

    def models(self) -> Mapping[str, Mapping[str, Version]]:
        return self._models

    def find(self, model: str, version: str | None) -> Version:
        """The version asked for, or the newest that is ready. Raises UnknownModel, UnknownVersion or NotReady."""
        versions = self._models.get(model)
        if not versions:
            if model in self._expected:
                raise NotReady(f'model "{model}" is not ready', retry_after_s=1)
            raise UnknownModel("no such model")
        if version is not None:
            if version not in versions:
                raise UnknownVersion("the model has no such version")
            return versions[version]
        for candidate in versions.values():
            if candidate.is_ready:
                return candidate
        return next(iter(versions.values()))

    async def ask(self, version: Version, request: Request) -> Answer:
        """The answer of the least busy replica; of another one if that is lost, inside the deadline.

        Once, if it may have run there; a few times, if it surely did not. A step of a sequence is answered by the
        replica that holds its state, or by none. Raises PoisonInput for what replicas do not survive.
        """
        if request.sequence is not None:
            return (await self._steps.ask(version, request, request.sequence, may_change=False))[1]
        self._retry_tokens = min(_RETRY_FLOOR, self._retry_tokens + _RETRY_SHARE)
        tried: list[ReplicaClient] = []
        repeats = 0  # of what may have run
        while True:
            try:
                return await self._quarantine.ask(
                    version.spec, request, lambda: self._next(version, tried, request.deadline_s)
                )
            except (ReplicaLost, ShuttingDown) as error:
                has_run = isinstance(error, ReplicaLost) and error.blame != "none"
                repeats += has_run
                if repeats > 1 or len(tried) > _MAX_REPEATS or (has_run and not self._take_token()):
                    raise
                self._events.request_retried(version.spec.name)

    def _take_token(self) -> bool:
        if self._retry_tokens < 1:
            return False
        self._retry_tokens -= 1
        return True

    def version_of_step(self, version: Version, step: SequenceStep) -> Version:
        """The version by which a step is to be read whose path names none: where its sequence is known to be."""
        return self._steps.version_of(version, step)

    async def ask_anywhere(self, version: Version, request: Request, step: SequenceStep) -> tuple[Version, Answer]:
        """The answer to a step whose path names no version, and the version that gave it: where the sequence is."""
        return await self._steps.ask(version, request, step, may_change=True)

    def _next(self, version: Version, tried: list[ReplicaClient], deadline_s: float) -> ReplicaClient:
        """The replica to ask now: none of those that were tried, of which it is one then. Raises NotReady."""
        if tried and monotonic() >= deadline_s:
            raise DeadlineExceeded("the replica was lost and no time is left to ask another")
        tried.append(replica := self._pick(version, tried))
        return replica

    def _pick(self, version: Version, without: Sequence[ReplicaClient]) -> ReplicaClient:
        ready = [r for r in version.replicas.values() if r.is_ready and r not in without]
        if not ready:
            raise NotReady(f'model "{version.spec.name}" is not ready', retry_after_s=1)
        return least_busy(ready)

    async def _link(self, entry: ReplicaEntry, tried: asyncio.Event) -> None:
        """Hold the channel to one replica until the fleet drops it; connect again whenever it breaks."""
        version = self._add(entry)
        moved = partial(self._steps.moved, entry.spec.name, entry.id)
        blame = partial(self._quarantine.blame, entry.spec)
        attempt = 0
        try:
            while True:
                try:
                    client = await connect(entry.address, self._node, self._token, moved, blame)
                except (NotReady, Overloaded):
                    tried.set()
                    await asyncio.sleep(_RECONNECT_S[min(attempt, len(_RECONNECT_S) - 1)])
                    attempt += 1
                    continue
                attempt = 0
                version.replicas[entry.id] = client
                try:
                    await client.known.wait()
                    tried.set()
                    self._steps.replicas_changed()
                    await client.lost.wait()
                finally:
                    del version.replicas[entry.id]
                    self._retire(client)
        finally:
            tried.set()
            self._remove(entry)

    def _retire(self, client: ReplicaClient) -> None:
        """Ask it nothing new, but let it answer what it accepted."""
        task = asyncio.create_task(client.finish())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _add(self, entry: ReplicaEntry) -> Version:
        spec = entry.spec
        versions = self._models.setdefault(spec.name, {})
        if spec.version not in versions:
            versions[spec.version] = Version(spec, entry.labels, Codec(spec, entry.labels), entry.backend)
            newest_first = sorted(versions.items(), key=lambda item: version_order(item[0]), reverse=True)
            self._models[spec.name] = versions = dict(newest_first)
        version = versions[spec.version]
        version.members.add(entry.id)
        log.info("replica %s of %s %s joined", entry.id, spec.name, spec.version)
        return version

    def _remove(self, entry: ReplicaEntry) -> None:
        versions = self._models[entry.spec.name]
        members = versions[entry.spec.version].members
        members.discard(entry.id)
        if not members:
            del versions[entry.spec.version]
        if not versions:
            del self._models[entry.spec.name]
        log.info("replica %s of %s %s left", entry.id, entry.spec.name, entry.spec.version)
