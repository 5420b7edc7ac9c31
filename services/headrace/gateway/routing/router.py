"""Which replica answers: the newest ready version, and in it the replica with the least outstanding work.

Where none is ready a request waits for one, inside its time.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Protocol, TypeVar

from headrace.channel import ReplicaClient, connect, has_ended
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
from headrace.gateway.routing.quarantine import Quarantine
from headrace.gateway.routing.sequence_router import SequenceRouter
from headrace.gateway.routing.waiting import Line, Turn, WaitQueue
from headrace.gateway.wire.infer import Codec
from headrace.inference.request import Answer, Request, SequenceStep
from headrace.telemetry.events import GatewayEvents
from headrace_models.repository import version_order
from headrace_models.spec import BackendName, ModelSpec

__all__ = ["Busy", "Router", "Version", "least_busy"]

log = logging.getLogger(__name__)

_RECONNECT_S = (0.05, 0.2, 1.0)
# Repeats after a lost replica may be at most this share of all requests, and always this many.
_RETRY_SHARE = 0.1
_RETRY_FLOOR = 10.0
# Of one request. Repeats of what surely did not run are not of that share, as nothing is done twice.
_MAX_REPEATS = 3
# When to ask again for a model in trouble: its replicas are started again after pauses of up to a minute.
_TROUBLE_S = 30
# Requests that may wait for a replica, in all.
MAX_WAITING = 512


@dataclass(eq=False)
class Version:
    """One version of a model: its spec, the classes of its labelled output, and its wire format.

    `members` are its replicas in the fleet, `replicas` those of them that a channel leads to now, for which a `line`
    may wait. `trouble` is why that is in vain, as it fails again and again: one sentence, empty if all is well.
    """

    spec: ModelSpec
    labels: tuple[str, ...]
    codec: Codec
    backend: BackendName
    members: set[str] = field(default_factory=set)
    replicas: dict[str, ReplicaClient] = field(default_factory=dict)
    trouble: str = ""

    def __post_init__(self) -> None:
        self.line = Line(self.spec, self.replicas)

    @property
    def is_ready(self) -> bool:
        """It can answer now; one in trouble may do so, too, but nobody should rely on it."""
        return any(r.is_ready for r in self.replicas.values())

    @property
    def is_sound(self) -> bool:
        return self.is_ready and not self.trouble

    def not_ready(self, *, may_pass: bool = False) -> NotReady:
        """Why it does not answer."""
        name = self.spec.name
        if self.trouble:
            return NotReady(
                f'model "{name}" is not ready: {self.trouble}', retry_after_s=_TROUBLE_S
            )
        return NotReady(f'model "{name}" is not ready', retry_after_s=1, may_pass=may_pass)


class Busy(Protocol):
    @property
    def outstanding(self) -> int:
        """Requests that it was asked and has not answered."""


B = TypeVar("B", bound=Busy)


def least_busy(ready: Sequence[B]) -> B:
    """The replica with the fewest requests outstanding; the first of those alike."""
    return min(ready, key=lambda replica: replica.outstanding) if len(ready) > 1 else ready[0]


@dataclass(eq=False, slots=True)
class _Way:
    """A request's way: who was asked, how often it was repeated though it may have run, and its turn if it waited."""

    version: Version
    deadline_s: float
    tried: list[ReplicaClient] = field(default_factory=list)
    repeats: int = 0
    turn: Turn | None = None


class Router:
    """Keeps one channel to every replica of the fleet, and sends each request to the best of them.

    `tell_ended` is told the id of a replica whose process has ended; at most `max_waiting` requests wait for replicas.
    """

    def __init__(
        self,
        node: str,
        token: str,
        events: GatewayEvents,
        max_waiting: int = MAX_WAITING,
        tell_ended: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._node = node
        self._token = token
        self._events = events
        self._tell_ended = tell_ended
        self._expected: frozenset[str] | None = None  # None before the fleet is known
        self._troubles: Mapping[tuple[str, str], str] = {}  # (model, version) -> why
        self._told_troubled: frozenset[str] = frozenset()
        self._models: dict[str, dict[str, Version]] = {}  # versions newest first
        self._links: dict[str, asyncio.Task[None]] = {}
        self._tries: dict[
            str, asyncio.Event
        ] = {}  # of each link: set once it is up or has failed once
        self._retiring: set[asyncio.Task[None]] = set()
        self._retry_tokens = _RETRY_FLOOR
        self._quarantine = Quarantine(events)
        self._patience = WaitQueue(events, max_waiting)
        self._steps = SequenceRouter(self._models, self._quarantine, self._patience)

    def update(self, fleet: Fleet) -> None:
        """Follow the fleet: open channels to what is new, close those to what left."""
        self._expected = frozenset(fleet.models)
        self._hear_of(
            {(trouble.model, trouble.version): trouble.reason for trouble in fleet.troubles}
        )
        entries = {entry.id: entry for entry in fleet.replicas}
        for gone in self._links.keys() - entries.keys():
            self._tries.pop(gone).set()
            self._links.pop(gone).cancel()
        for entry_id in entries.keys() - self._links.keys():
            tried = self._tries[entry_id] = asyncio.Event()
            self._links[entry_id] = asyncio.create_task(self._link(entries[entry_id], tried))
        for name in self._models.keys() - self._expected:
            self._forget_empty(name)

    def _hear_of(self, troubles: Mapping[tuple[str, str], str]) -> None:
        """Nobody goes on waiting for a version in trouble, unless it can answer at this moment."""
        self._troubles = troubles
        for version in (
            version for versions in self._models.values() for version in versions.values()
        ):
            version.trouble = troubles.get((version.spec.name, version.spec.version), "")
            if version.trouble and not version.is_ready:
                version.line.refuse(version.not_ready)
                self._steps.replicas_changed()
        for model in self._told_troubled | self._troubled:
            self._events.model_troubled(model, is_troubled=model in self._troubled)
        self._told_troubled = self._troubled

    @property
    def _troubled(self) -> frozenset[str]:
        """The models that should be served and have no version without trouble."""
        names = {model for model, _ in self._troubles} & (self._expected or frozenset())
        return frozenset(
            n for n in names if all(v.trouble for v in self._models.get(n, {}).values())
        )

    async def wait_linked(self) -> None:
        """Wait until every replica that the fleet has told of is in use, or could not be reached at the first try."""
        for tried in list(self._tries.values()):
            await tried.wait()

    async def close(self) -> None:
        self._expected = frozenset()
        links = list(self._links.values())
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        await asyncio.gather(*self._retiring, return_exceptions=True)

    @property
    def is_ready(self) -> bool:
        """Every model that should be served and is not in trouble can answer now, and at least one can.

        Whoever waits does not count.
        """
        ready = {
            name
            for name, versions in self._models.items()
            if any(v.is_ready for v in versions.values())
        }
        expected = self._expected or frozenset()
        return bool(expected & ready) and expected <= ready | self._troubled

    def models(self) -> Mapping[str, Mapping[str, Version]]:
        return self._models

    def find(self, model: str, version: str | None) -> Version:
        """The version asked for, or the newest that is ready. Raises UnknownModel, UnknownVersion or NotReady."""
        versions = self._models.get(model)
        if not versions:
            if self._expected is None:
                raise NotReady(
                    "the gateway has not heard yet which models there are", retry_after_s=1
                )
            if model in self._expected:
                reason = next(
                    (why for (name, _), why in self._troubles.items() if name == model), ""
                )
                raise NotReady(
                    f'model "{model}" is not ready' + (f": {reason}" if reason else ""),
                    retry_after_s=1,
                )
            raise UnknownModel("no such model")
        if version is not None:
            if version not in versions:
                raise UnknownVersion("the model has no such version")
            return versions[version]
        by_choice = (
            [v for v in versions.values() if v.is_sound]
            or [v for v in versions.values() if v.is_ready]
            or [v for v in versions.values() if not v.trouble]
            or [*versions.values()]
        )
        return by_choice[0]

    async def dispatch(self, version: Version, request: Request) -> Answer:
        """The answer of the least busy replica; of another one if that is lost, inside the deadline. Waits for either.

        Once, if it may have run there; a few times, if it surely did not. A step of a sequence is answered by the
        replica that holds its state, or by none. Raises PoisonInput for what replicas do not survive.
        """
        if request.sequence is not None:
            return (
                await self._steps.dispatch(version, request, request.sequence, may_change=False)
            )[1]
        self._retry_tokens = min(_RETRY_FLOOR, self._retry_tokens + _RETRY_SHARE)
        way = _Way(version, request.deadline_s)
        pick = partial(self._next, way)
        try:
            while True:
                try:
                    return await self._quarantine.guard(version.spec, request, pick)
                except NotReady as error:
                    if not error.may_pass:
                        raise
                    await self._wait(way)
                except (ReplicaLost, ShuttingDown) as error:
                    has_run = isinstance(error, ReplicaLost) and error.blame != "none"
                    way.repeats += has_run
                    if (
                        way.repeats > 1
                        or len(way.tried) > _MAX_REPEATS
                        or (has_run and not self._take_token())
                    ):
                        raise
                    self._events.request_retried(version.spec.name)
        finally:
            if way.turn is not None:
                way.turn.end()

    def _take_token(self) -> bool:
        if self._retry_tokens < 1:
            return False
        self._retry_tokens -= 1
        return True

    def version_of_step(self, version: Version, step: SequenceStep) -> Version:
        """The version by which a step is to be read whose path names none: where its sequence is known to be."""
        return self._steps.version_of(version, step)

    async def dispatch_anywhere(
        self, version: Version, request: Request, step: SequenceStep
    ) -> tuple[Version, Answer]:
        """The answer to a step whose path names no version, and the version that gave it: where the sequence is."""
        return await self._steps.dispatch(version, request, step, may_change=True)

    def _next(self, way: _Way) -> ReplicaClient:
        """The replica to ask now: none of those that were tried, of which it is one then. Raises NotReady."""
        if way.tried and monotonic() >= way.deadline_s:
            raise DeadlineExceeded("the replica was lost and no time is left to ask another")
        way.tried.append(replica := _pick(way))
        return replica

    async def _wait(self, way: _Way) -> None:
        """Wait until a replica may be asked, or as long as patience lasts; a turn that came to nothing waits again."""
        if way.turn is None:
            way.turn = self._patience.turn(way.version.line, way.tried, way.deadline_s)
        else:
            way.turn.end()
        await self._patience.wait(way.turn)

    async def _link(self, entry: ReplicaEntry, tried: asyncio.Event) -> None:
        """Hold the channel to one replica until it ends or the fleet drops it; connect again whenever it breaks."""
        version = self._add(entry)
        attempt = 0
        try:
            while True:
                try:
                    client = await self._connect(entry)
                except (NotReady, Overloaded) as error:
                    if self._is_local(entry) and has_ended(
                        error
                    ):  # else a network may have refused for it
                        self._tell_ended(entry.id)
                        return
                    tried.set()
                    await asyncio.sleep(_RECONNECT_S[min(attempt, len(_RECONNECT_S) - 1)])
                    attempt += 1
                    continue
                attempt = 0
                version.replicas[entry.id] = client
                client.watch(partial(self._replicas_changed, version))
                try:
                    await client.known.wait()
                    tried.set()
                    self._replicas_changed(version)
                    await client.lost.wait()
                finally:
                    del version.replicas[entry.id]
                    self._retire(client)
        finally:
            tried.set()
            self._remove(entry, version)

    async def _connect(self, entry: ReplicaEntry) -> ReplicaClient:
        moved = partial(self._steps.moved, entry.spec.name, entry.id)
        blame = partial(self._quarantine.blame, entry.spec)
        return await connect(entry.address, self._node, self._token, moved, blame)

    def _is_local(self, entry: ReplicaEntry) -> bool:
        return entry.address.node == self._node

    def _replicas_changed(self, version: Version) -> None:
        version.line.advance()
        self._steps.replicas_changed()

    def _retire(self, client: ReplicaClient) -> None:
        """Ask it nothing new, but let it answer what it accepted."""
        task = asyncio.create_task(client.finish())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _add(self, entry: ReplicaEntry) -> Version:
        spec = entry.spec
        versions = self._models.setdefault(spec.name, {})
        known = versions.get(spec.version)
        if known is None or (not known.members and known.spec != spec):
            self._events.version_joined(spec)
            versions[spec.version] = Version(
                spec, entry.labels, Codec(spec, entry.labels), entry.backend
            )
            newest_first = sorted(
                versions.items(), key=lambda item: version_order(item[0]), reverse=True
            )
            self._models[spec.name] = versions = dict(newest_first)
        version = versions[spec.version]
        version.trouble = self._troubles.get((spec.name, spec.version), "")
        version.members.add(entry.id)
        self._forget_empty(spec.name)
        if known is not None and known is not version:
            known.line.close()
        log.info("replica %s of %s %s joined", entry.id, spec.name, spec.version)
        return version

    def _remove(self, entry: ReplicaEntry, version: Version) -> None:
        version.members.discard(entry.id)
        self._forget_empty(entry.spec.name)
        self._steps.replicas_changed()
        log.info("replica %s of %s %s left", entry.id, entry.spec.name, entry.spec.version)

    def _forget_empty(self, name: str) -> None:
        """Forget versions without members; but not all of a model that should be served: requests may wait for it."""
        versions = self._models.get(name, {})
        empty = [version for version in versions.values() if not version.members]
        if len(empty) == len(versions) and name in (self._expected or ()):
            empty = empty[1:]  # the newest may come back
        for version in empty:
            del versions[version.spec.version]
            self._events.version_left(version.spec)
            version.line.close()
            self._steps.replicas_changed()
        if not versions:
            self._models.pop(name, None)


def _pick(way: _Way) -> ReplicaClient:
    """Raises NotReady. When all patience is spent a silent replica is asked: it may be late, a refusal is sure."""
    version, turn = way.version, way.turn
    if turn is not None or not version.line.waiting:  # else others came before it
        ready = [r for r in version.replicas.values() if r.is_ready and r not in way.tried]
        if ready:
            return least_busy(ready)
    if turn is None or not turn.is_last_resort:
        raise version.not_ready(may_pass=True)
    silent = [r for r in version.replicas.values() if r.is_silent and r not in way.tried]
    if not silent:
        raise version.not_ready()
    return least_busy(silent)
