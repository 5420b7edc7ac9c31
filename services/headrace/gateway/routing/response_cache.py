"""Stored answers, and requests that share one: equal stateless requests of a model run once.

Off unless the model's settings give it bytes. Tensors are stored, before they are written in any
form, so that all endpoints share them. Errors go to all that wait for them, and are not stored.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from time import monotonic

from cachetools import TTLCache

from headrace.errors import DeadlineExceeded, Overloaded
from headrace.gateway.routing.digest import digest_of
from headrace.gateway.routing.version import Version
from headrace.gateway.settings import CacheLimits
from headrace.inference.request import Answer, Request, Times
from headrace.inference.tensor import Tensor
from headrace.telemetry.events import GatewayEvents

__all__ = ["ResponseCache"]

_NO_TIME = Times(0.0, 0.0, 0.0, 0)
# What an answer and one of its tensors take besides the bytes, by generous measure.
_ENTRY_BYTES = 512
_TENSOR_BYTES = 512

Run = Callable[[Version, Request], Awaitable[Answer]]


class ResponseCache:
    """Calls `run` for answers that it does not have; `limits` by model. For one event loop."""

    def __init__(
        self,
        run: Run,
        limits: Mapping[str, CacheLimits],
        events: GatewayEvents,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._run = run
        self._events = events
        self._clock = clock
        # By model: digest -> answer. The one used least lately goes first.
        self._stored: dict[str, TTLCache[bytes, Answer]] = {
            model: TTLCache(of_model.cache_bytes, of_model.cache_s, clock, _nbytes)
            for model, of_model in limits.items()
        }
        self._flights: dict[bytes, _Flight] = {}

    def holds(self, model: str) -> bool:
        """Tell whether the model's answers are stored."""
        return model in self._stored

    async def get_or_run(self, version: Version, request: Request) -> Answer:
        """Return the stored answer, that of an equal request under way, or run the request.

        A request that waits for another's answer does so inside its own deadline.
        """
        model = version.spec.name
        stored = self._stored.get(model)
        if stored is None or request.sequence is not None:
            return await self._run(version, request)
        digest = await digest_of(version.spec, request)
        if found := stored.get(digest):
            self._events.cache_hit(model)
            return found
        while (flight := self._flights.get(digest)) is not None:
            self._events.cache_shared(model)
            try:
                return await flight.wait(request.deadline_s)
            except (DeadlineExceeded, Overloaded):
                # The leader's deadline may be earlier than ours, or too short; if so, one of the
                # waiting requests becomes the leader.
                if self._clock() >= request.deadline_s or request.deadline_s <= flight.deadline_s:
                    raise
        self._events.cache_missed(model)
        return await self._lead(stored, digest, version, request)

    async def _lead(
        self, stored: TTLCache[bytes, Answer], digest: bytes, version: Version, request: Request
    ) -> Answer:
        def ended(flight: _Flight) -> None:
            if self._flights.get(digest) is flight:
                del self._flights[digest]

        async def run() -> Answer:
            answer = await self._run(version, request)
            if _nbytes(answer) <= stored.maxsize:
                stored[digest] = _copy(answer)
            return answer

        flight = self._flights[digest] = _Flight(run(), request.deadline_s, ended, self._clock)
        return await flight.wait(request.deadline_s)


class _Flight:
    """A request under way, and those that wait for its answer: once none waits it is withdrawn."""

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
        self._run.add_done_callback(self._on_done)

    async def wait(self, deadline_s: float) -> Answer:
        """Wait for the answer. Raises DeadlineExceeded at the deadline, and the run's error."""
        self._waiting += 1
        try:
            await asyncio.wait([self._run], timeout=max(0.0, deadline_s - self._clock()))
            if not self._run.done():
                raise DeadlineExceeded(
                    "the run that equal requests share did not end before the deadline"
                )
            return self._run.result()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._run.cancel()
                # At once: no request that comes before the cancelled run ends may wait for it.
                self._ended(self)

    def _on_done(self, run: asyncio.Task[Answer]) -> None:
        self._ended(self)
        if not run.cancelled():
            run.exception()  # all that waited may have left in this tick, and not looked at it


def _nbytes(answer: Answer) -> int:
    return _ENTRY_BYTES + sum(_TENSOR_BYTES + len(tensor.data) for tensor in answer.outputs)


def _copy(answer: Answer) -> Answer:
    """Copy the tensors, which are views of all that was received with them."""
    outputs = [Tensor(t.name, t.datatype, t.shape, bytes(t.data)) for t in answer.outputs]
    return Answer(outputs, _NO_TIME, answer.tokens, answer.truncated, is_cached=True)
