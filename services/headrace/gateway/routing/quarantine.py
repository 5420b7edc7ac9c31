"""The inputs that end a replica's process, or on which a model does not end.

What was under way on a lost replica is suspect. A suspect runs in a batch of its own, and its
replica reports that before it starts: if the replica is lost then, the suspect is convicted. So
such an input costs a gateway at most two replicas. The only cost to others is hashing: of lost
requests, and of all requests to a model while it has suspects.

A stopped run costs no replica. An input that was alone in it is convicted at once; those that
shared a batch are suspect, and the same replica runs each of them alone. These repeats do not count
against the share of repeats: there is at most one for each request of the batch, and load on the
machine does not cause them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from msgspec.structs import replace

from headrace.errors import (
    Blame,
    DeadlineExceeded,
    HeadraceError,
    PoisonInput,
    ReplicaLost,
    RunStopped,
    Unavailable,
)
from headrace.gateway.routing.digest import digest_of
from headrace.inference.request import Answer, Request
from headrace.telemetry.events import GatewayEvents
from headrace_models.spec import ModelSpec

__all__ = ["POISON_S", "SUSPECT_S", "Quarantine"]

log = logging.getLogger(__name__)

SUSPECT_S = 60.0
POISON_S = 600.0
# The most cases of a model; beyond it the oldest are forgotten.
MAX_CASES = 4096


class Replica(Protocol):
    def send(self, request: Request) -> Awaitable[Answer]:
        """Raises ReplicaLost, at once if nothing was sent, else when it is awaited."""
        ...


@dataclass(eq=False, slots=True)
class _Case:
    """An input that is suspect or poison. `lock` is held while it runs alone; equal ones wait."""

    until_s: float
    is_poison: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Quarantine:
    """Sends requests to replicas, and remembers inputs that these did not survive.

    For one event loop.
    """

    def __init__(
        self, events: GatewayEvents, clock: Callable[[], float] = monotonic, most: int = MAX_CASES
    ) -> None:
        self._events = events
        self._most = most
        self._clock = clock
        self._judging: set[asyncio.Task[None]] = set()
        # Model -> digest -> case, the oldest first. A plain dict, as another thread counts them.
        self._cases: dict[str, dict[bytes, _Case]] = {}
        events.watch_quarantine(lambda: self.poisons)

    @property
    def poisons(self) -> int:
        """The number of inputs in quarantine now; may be read from any thread."""
        now_s = self._clock()
        cases = [case for model in list(self._cases.values()) for case in list(model.values())]
        return sum(case.is_poison and case.until_s > now_s for case in cases)

    async def guard(self, spec: ModelSpec, request: Request, pick: Callable[[], Replica]) -> Answer:
        """Send a request to the replica that `pick` returns; a suspect waits for an equal one.

        If its run was stopped and it may be to blame, the same replica gets it once more.

        Raises PoisonInput if the input, on its own, ended a replica or did not end, now or lately;
        raises ReplicaLost with its blame.
        """
        picked: list[Replica] = []

        def pick_once() -> Replica:
            picked.append(replica := pick())
            return replica

        try:
            return await self._guard_once(spec, request, pick_once)
        except RunStopped as stopped:
            if stopped.blame != "possible":
                raise
            self._events.request_retried(spec.name)
            return await self._guard_once(spec, request, lambda: picked[-1])

    async def _guard_once(
        self, spec: ModelSpec, request: Request, pick: Callable[[], Replica]
    ) -> Answer:
        self._forget_expired(spec.name)
        if spec.name not in self._cases:
            return await self._send(spec, request, pick())
        digest = await digest_of(spec, request)
        case = self._find(spec.name, digest)
        if case is None:
            return await self._send(spec, request, pick())
        async with _hold(case, request.deadline_s):
            if self._find(spec.name, digest) is not case:  # an equal request cleared it meanwhile
                return await self._send(spec, request, pick())
            if case.is_poison:
                raise self._refusal(spec)
            return await self._try(spec, digest, case, pick(), request)

    async def _send(self, spec: ModelSpec, request: Request, replica: Replica) -> Answer:
        """Send a request without a case; suspect it if the replica is lost or its run stopped."""
        try:
            return await replica.send(request)
        except ReplicaLost as lost:
            if lost.blame == "possible":
                await self._judge(spec, request, lost.blame)
            raise
        except RunStopped as stopped:
            await self._judge(spec, request, stopped.blame)
            if stopped.blame == "certain":
                raise self._refusal(spec) from None
            raise

    async def _try(
        self, spec: ModelSpec, digest: bytes, case: _Case, replica: Replica, request: Request
    ) -> Answer:
        """Have a suspect run alone. An answer clears it, also an error that the model caused."""
        try:
            answer = await replica.send(replace(request, runs_alone=True))
        except (ReplicaLost, RunStopped) as error:
            if error.blame != "certain":
                raise
            self._convict(spec, digest, case)
            raise self._refusal(spec) from None
        except (Unavailable, DeadlineExceeded):
            raise
        except HeadraceError:
            self._clear(spec.name, digest)
            raise
        self._clear(spec.name, digest)
        return answer

    def blame(self, spec: ModelSpec, request: Request, blame: Blame) -> None:
        """Remember an input that is, or may be, to blame, though its caller has left."""
        task = asyncio.create_task(self._judge(spec, request, blame))
        self._judging.add(task)
        task.add_done_callback(self._judging.discard)

    async def _judge(self, spec: ModelSpec, request: Request, blame: Blame) -> None:
        if blame == "none":
            return
        digest = await digest_of(spec, request)
        case = self._find(spec.name, digest)
        if blame == "certain":
            self._convict(spec, digest, case or _Case(self._clock()))
        elif case is None:
            self._put(spec.name, digest, _Case(self._clock() + SUSPECT_S))

    def _convict(self, spec: ModelSpec, digest: bytes, case: _Case) -> None:
        log.warning(
            "%s %s crashed or did not end on an input, which is refused from now on",
            spec.name,
            spec.version,
        )
        self._clear(spec.name, digest)
        case.until_s = self._clock() + POISON_S
        case.is_poison = True
        self._put(spec.name, digest, case)

    def _refusal(self, spec: ModelSpec) -> PoisonInput:
        self._events.poison_refused(spec.name)
        return PoisonInput(
            "inputs: the model crashed or did not end on them; "
            f"they are refused for {POISON_S / 60:.0f} minutes"
        )

    def _put(self, model: str, digest: bytes, case: _Case) -> None:
        cases = self._cases.setdefault(model, {})
        cases[digest] = case
        if len(cases) > self._most:
            del cases[next(iter(cases))]

    def _forget_expired(self, model: str) -> None:
        """Forget a model's oldest cases that are over."""
        cases = self._cases.get(model)
        if cases is None:
            return
        now_s = self._clock()
        while cases and cases[oldest := next(iter(cases))].until_s <= now_s:
            del cases[oldest]
        if not cases:
            del self._cases[model]

    def _find(self, model: str, digest: bytes) -> _Case | None:
        case = self._cases.get(model, {}).get(digest)
        return case if case is not None and case.until_s > self._clock() else None

    def _clear(self, model: str, digest: bytes) -> None:
        self._cases.get(model, {}).pop(digest, None)


@asynccontextmanager
async def _hold(case: _Case, deadline_s: float) -> AsyncIterator[None]:
    """Wait for equal requests that run alone. Raises DeadlineExceeded if they take too long."""
    try:
        async with asyncio.timeout(max(0.0, deadline_s - monotonic())):
            await case.lock.acquire()
    except TimeoutError:
        raise DeadlineExceeded("an equal request that is run alone took too long") from None
    try:
        yield
    finally:
        case.lock.release()
