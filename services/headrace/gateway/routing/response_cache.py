"""Answers that are kept, and requests that share one: equal stateless requests of a model run once.

Off unless the model's settings give it bytes. What is kept are tensors, before they are written in any form, so that
all endpoints share them. Errors go to all who wait for them, and are not kept.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from time import monotonic

from headrace.errors import DeadlineExceeded, Overloaded
from headrace.gateway.routing.digest import digest_of
from headrace.gateway.routing.router import Version
from headrace.inference.request import Answer, Request, Times
from headrace.inference.tensor import Tensor
from headrace.telemetry.events import GatewayEvents

__all__ = ["CacheLimits", "ResponseCache"]

_NO_TIME = Times(0.0, 0.0, 0.0, 0)
# What an answer and one of its tensors take besides the bytes, by generous measure.
_ENTRY_BYTES, _TENSOR_BYTES = 512, 512

Ask = Callable[[Version, Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """Of one model in one gateway process: the most bytes of answers, and how long one stays."""

    max_bytes: int
    stay_s: float = 60.0


class ResponseCache:
    """Asks for what it does not know; `limits` are of the models that have it. For one event loop."""

    def __init__(
        self,
        ask: Ask,
        limits: Mapping[str, CacheLimits],
        events: GatewayEvents,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._ask = ask
        self._events = events
        self._clock = clock
        self._kept = {model: _Kept(of_model) for model, of_model in limits.items()}
        self._flights: dict[bytes, _Flight] = {}

    def holds(self, model: str) -> bool:
        """Whether the model's answers are kept."""
        return model in self._kept

    async def get_or_run(self, version: Version, request: Request) -> Answer:
        """The answer kept, the one that an equal request waits for, or a replica's.

        Who waits for another's answer does so inside its own deadline.
        """
        model = version.spec.name
        kept = self._kept.get(model)
        if kept is None or request.sequence is not None:
            return await self._ask(version, request)
        digest = await digest_of(version.spec, request)
        if found := kept.find(digest, self._clock()):
            self._events.cache_hit(model)
            return found
        while (flight := self._flights.get(digest)) is not None:
            self._events.cache_shared(model)
            try:
                return await flight.wait(request.deadline_s)
            except (DeadlineExceeded, Overloaded):
                # The time of whoever leads may be over or too short, not this one's: then one that waits leads.
                if self._clock() >= request.deadline_s or request.deadline_s <= flight.deadline_s:
                    raise
        self._events.cache_missed(model)
        return await self._lead(kept, digest, version, request)

    async def _lead(
        self, kept: "_Kept", digest: bytes, version: Version, request: Request
    ) -> Answer:
        def ended(flight: _Flight) -> None:
            if self._flights.get(digest) is flight:
                del self._flights[digest]

        async def run() -> Answer:
            answer = await self._ask(version, request)
            kept.keep(digest, answer, self._clock())
            return answer

        flight = self._flights[digest] = _Flight(run(), request.deadline_s, ended, self._clock)
        return await flight.wait(request.deadline_s)


class _Flight:
    """A request under way and those that wait for it. It is withdrawn when nobody does any more."""

    def __init__(
        self,
        run: Coroutine[None, None, Answer],
        deadline_s: float,
        ended: Callable[["_Flight"], None],
        clock: Callable[[], float],
    ) -> None:
        self._run = asyncio.create_task(run)
        self.deadline_s = deadline_s
        self._ended = ended
        self._clock = clock
        self._waiting = 0
        self._run.add_done_callback(self._settle)

    async def wait(self, deadline_s: float) -> Answer:
        """Its answer. Raises DeadlineExceeded at the deadline, and what it failed with."""
        self._waiting += 1
        try:
            await asyncio.wait([self._run], timeout=max(0.0, deadline_s - self._clock()))
            if not self._run.done():
                raise DeadlineExceeded("the model did not answer before the deadline")
            return self._run.result()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._run.cancel()
                self._ended(
                    self
                )  # now: who comes before the cancelled run has ended must not wait for it

    def _settle(self, run: asyncio.Task[Answer]) -> None:
        self._ended(self)
        if not run.cancelled():
            run.exception()  # looked at here too, since all who waited may have left in this turn


class _Kept:
    """The answers of one model, the last used at the end."""

    def __init__(self, limits: CacheLimits) -> None:
        self._limits = limits
        self._answers: dict[
            bytes, tuple[Answer, int, float]
        ] = {}  # digest -> answer, its bytes, until when it stays
        self._nbytes = 0

    def find(self, digest: bytes, now_s: float) -> Answer | None:
        entry = self._answers.pop(digest, None)
        if entry is None:
            return None
        answer, nbytes, until_s = entry
        if until_s <= now_s:
            self._nbytes -= nbytes
            return None
        self._answers[digest] = entry
        return answer

    def keep(self, digest: bytes, answer: Answer, now_s: float) -> None:
        """Keep a copy: the answer's own tensors are views of all that was received with it."""
        nbytes = _ENTRY_BYTES + sum(_TENSOR_BYTES + len(tensor.data) for tensor in answer.outputs)
        if nbytes > self._limits.max_bytes:
            return
        self._drop(digest)
        while self._nbytes + nbytes > self._limits.max_bytes:
            self._drop(next(iter(self._answers)))
        outputs = [Tensor(t.name, t.datatype, t.shape, bytes(t.data)) for t in answer.outputs]
        copy = Answer(outputs, _NO_TIME, answer.tokens, answer.truncated, is_cached=True)
        self._answers[digest] = (copy, nbytes, now_s + self._limits.stay_s)
        self._nbytes += nbytes

    def _drop(self, digest: bytes) -> None:
        if entry := self._answers.pop(digest, None):
            self._nbytes -= entry[1]
