"""Inputs that end the process that runs them, or that a model does not end on: suspected, run alone next, then refused.

What was under way on a lost replica is suspect. A suspect is run in a batch of its own, and its replica says so before
it starts; if the replica is lost then, there is no doubt what ended it. So one such input costs a gateway two replicas,
and nobody's time but for a hash of what was lost, and of a model's requests while something of it is suspect.

A run that was stopped costs no replica: what was alone in it is refused at once, what was with others is suspect and
repeated alone by the same replica. Such repeats are not of the share that repeats may have of all requests: there is
one at most for each request of the batch, and the machine's load does not cause them.
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

__all__ = ["POISON_S", "SUSPECT_S", "Quarantine", "Replica"]

log = logging.getLogger(__name__)

SUSPECT_S = 60.0
POISON_S = 600.0
# Of a model; beyond it the oldest are forgotten.
MAX_CASES = 4096


class Replica(Protocol):
    def send(self, request: Request) -> Awaitable[Answer]:
        """Raises ReplicaLost, at once if nothing was sent, else when it is awaited."""
        ...


@dataclass(eq=False, slots=True)
class _Case:
    """An input at fault, or suspect. `trial` is held while it runs alone: equal inputs wait for it."""

    until_s: float
    is_poison: bool = False
    trial: asyncio.Lock = field(default_factory=asyncio.Lock)


class Quarantine:
    """Asks replicas, and remembers what they did not survive. For one event loop."""

    def __init__(
        self, events: GatewayEvents, clock: Callable[[], float] = monotonic, most: int = MAX_CASES
    ) -> None:
        self._events = events
        self._most = most
        self._clock = clock
        self._judging: set[asyncio.Task[None]] = set()
        self._cases: dict[str, dict[bytes, _Case]] = {}  # model -> digest -> case, the oldest first
        events.watch_quarantine(lambda: self.poisons)

    @property
    def poisons(self) -> int:
        """How many inputs are in quarantine now; may be asked from any thread."""
        now_s = self._clock()
        cases = [
            case for of_model in list(self._cases.values()) for case in list(of_model.values())
        ]
        return sum(case.is_poison and case.until_s > now_s for case in cases)

    async def guard(self, spec: ModelSpec, request: Request, pick: Callable[[], Replica]) -> Answer:
        """The answer of the replica that `pick` gives once the request may go.

        Raises PoisonInput if the input, on its own, ended a replica or did not end, now or lately; ReplicaLost, with
        who is to blame.
        """
        asked: list[Replica] = []

        def pick_once() -> Replica:
            asked.append(replica := pick())
            return replica

        try:
            return await self._ask_for(spec, request, pick_once)
        except RunStopped as stopped:
            if stopped.blame != "possible":
                raise
            self._events.request_retried(spec.name)
            return await self._ask_for(spec, request, lambda: asked[-1])

    async def _ask_for(
        self, spec: ModelSpec, request: Request, pick: Callable[[], Replica]
    ) -> Answer:
        if not self._has_cases(spec.name):
            return await self._ask(spec, request, pick())
        digest = await digest_of(spec, request)
        case = self._find(spec.name, digest)
        if case is None:
            return await self._ask(spec, request, pick())
        async with _turn(case, request.deadline_s):
            if self._find(spec.name, digest) is not case:
                return await self._ask(
                    spec, request, pick()
                )  # found innocent by an equal request meanwhile
            if case.is_poison:
                raise self._refusal(spec)
            return await self._try(spec, digest, case, pick(), request)

    async def _ask(self, spec: ModelSpec, request: Request, replica: Replica) -> Answer:
        """Ask for what nothing is known against, and suspect it if its replica is lost or its run was stopped."""
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
        """Ask to run a suspect alone. An answer clears it, right or wrong; what says nothing of it does not."""
        try:
            answer = await replica.send(replace(request, is_suspect=True))
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
        """Remember what was to blame, or may have been, though its caller has left."""
        task = asyncio.create_task(self._judge(spec, request, blame))
        self._judging.add(task)
        task.add_done_callback(self._judging.discard)

    async def _judge(self, spec: ModelSpec, request: Request, blame: Blame) -> None:
        if blame == "none":
            return
        digest = await digest_of(spec, request)
        if blame == "possible":
            self._suspect(spec.name, digest)
        else:
            self._convict(spec, digest, self._find(spec.name, digest) or _Case(self._clock()))

    def _suspect(self, model: str, digest: bytes) -> None:
        if self._find(model, digest) is None:
            self._keep(model, digest, _Case(self._clock() + SUSPECT_S))

    def _convict(self, spec: ModelSpec, digest: bytes, case: _Case) -> None:
        log.warning(
            "%s %s did not survive or not end on a request: it is refused from now on",
            spec.name,
            spec.version,
        )
        self._clear(spec.name, digest)
        case.until_s, case.is_poison = self._clock() + POISON_S, True
        self._keep(spec.name, digest, case)

    def _refusal(self, spec: ModelSpec) -> PoisonInput:
        self._events.poison_refused(spec.name)
        minutes = POISON_S / 60
        return PoisonInput(
            f"inputs: the model ended its process, or did not end, on them; refused for {minutes:.0f} minutes"
        )

    def _keep(self, model: str, digest: bytes, case: _Case) -> None:
        cases = self._cases.setdefault(model, {})
        cases[digest] = case
        if len(cases) > self._most:
            del cases[next(iter(cases))]

    def _has_cases(self, model: str) -> bool:
        """Whether anything is held against the model's inputs. The oldest that are over are forgotten on the way."""
        cases = self._cases.get(model)
        if cases is None:
            return False
        now_s = self._clock()
        while cases and cases[oldest := next(iter(cases))].until_s <= now_s:
            del cases[oldest]
        if not cases:
            del self._cases[model]
        return bool(cases)

    def _find(self, model: str, digest: bytes) -> _Case | None:
        case = self._cases.get(model, {}).get(digest)
        return case if case is not None and case.until_s > self._clock() else None

    def _clear(self, model: str, digest: bytes) -> None:
        self._cases.get(model, {}).pop(digest, None)


@asynccontextmanager
async def _turn(case: _Case, deadline_s: float) -> AsyncIterator[None]:
    """Hold the case's trial. Raises DeadlineExceeded if others take too long with it."""
    try:
        async with asyncio.timeout(max(0.0, deadline_s - monotonic())):
            await case.trial.acquire()
    except TimeoutError:
        raise DeadlineExceeded("an equal request that is run alone took too long") from None
    try:
        yield
    finally:
        case.trial.release()
