"""Sends each request to the least busy replica of its version.

While none is ready the request waits for one, within its time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from headrace.channel import ReplicaClient
from headrace.errors import DeadlineExceeded, NotReady, ReplicaLost, ShuttingDown
from headrace.fleet.entries import Fleet
from headrace.gateway.routing.links import Links
from headrace.gateway.routing.quarantine import Quarantine
from headrace.gateway.routing.sequence_router import SequenceRouter
from headrace.gateway.routing.served_models import ServedModels
from headrace.gateway.routing.version import Version, least_busy
from headrace.gateway.routing.waiting import Waiter, WaitQueues
from headrace.inference.request import Answer, Request, SequenceStep
from headrace.telemetry.events import GatewayEvents

__all__ = ["Router"]

# Repeats after a lost replica may be at most this share of all requests, and always this many.
_RETRY_SHARE = 0.1
_RETRY_FLOOR = 10.0
# Repeats of one request. Those of what surely did not run are not of that share, as nothing is
# done twice.
_MAX_REPEATS = 3
# Requests that may wait for a replica, in all.
MAX_WAITING = 512


@dataclass(eq=False, slots=True)
class _Attempts:
    """The attempts to have one request answered.

    `tried` are the replicas that it was sent to; `reruns` counts how often it was sent again
    although it may have run.
    """

    version: Version
    deadline_s: float
    tried: list[ReplicaClient] = field(default_factory=list)
    reruns: int = 0
    waiter: Waiter | None = None


class Router:
    """Keeps one channel to every replica of the fleet, and sends each request to the best of them.

    Calls `report_ended` with the id of a replica whose process has ended. At most `max_waiting`
    requests wait for replicas.
    """

    def __init__(
        self,
        node: str,
        token: str,
        events: GatewayEvents,
        max_waiting: int = MAX_WAITING,
        report_ended: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._events = events
        self._retry_tokens = _RETRY_FLOOR
        self._quarantine = Quarantine(events)
        self._queues = WaitQueues(events, max_waiting)
        self._models = ServedModels(events, self._steps_may_go)
        self._sequences = SequenceRouter(self._models.versions, self._quarantine, self._queues)
        # `changed` wakes the requests and steps that wait for a replica; `moved` notes the new
        # holder of sequences, and wakes their steps.
        self._links = Links(
            node,
            token,
            self._models,
            self._quarantine,
            report_ended=report_ended,
            changed=self._replicas_changed,
            moved=self._sequences.moved,
        )

    def update(self, fleet: Fleet) -> None:
        """Follow the fleet: open channels to new replicas, close those to replicas that left."""
        self._models.update(fleet)
        self._links.update(fleet.replicas)
        self._models.forget_unexpected()

    async def wait_linked(self) -> None:
        """Wait until each replica of the fleet is in use or could not be reached at first."""
        await self._links.wait_linked()

    async def close(self) -> None:
        self._models.expect_none()
        await self._links.close()

    @property
    def is_ready(self) -> bool:
        """Tell whether all expected models without trouble can answer now, and at least one can.

        A model can answer once a replica is ready; that requests wait for one is not enough.
        """
        return self._models.is_ready

    def models(self) -> Mapping[str, Mapping[str, Version]]:
        """Versions by model, newest first."""
        return self._models.versions

    def find(self, model: str, version: str | None) -> Version:
        """Find a version, or the newest that is ready. Raises UnknownModel, UnknownVersion or
        NotReady.
        """
        return self._models.find(model, version)

    async def dispatch(self, version: Version, request: Request) -> Answer:
        """Send a request to the least busy replica, to another if that is lost; wait while none is
        ready.

        The request is repeated once if it may have run, and a few times if it surely did not. A
        step of a sequence is answered by the replica that holds its state, or by none. Raises
        PoisonInput for an input that replicas do not survive.
        """
        if request.sequence is not None:
            _, answer = await self._sequences.dispatch(
                version, request, request.sequence, may_change=False
            )
            return answer
        self._retry_tokens = min(_RETRY_FLOOR, self._retry_tokens + _RETRY_SHARE)
        attempts = _Attempts(version, request.deadline_s)
        pick = partial(_pick, attempts)
        try:
            while True:
                try:
                    return await self._quarantine.guard(version.spec, request, pick)
                except NotReady as error:
                    if not error.may_pass:
                        raise
                    await self._wait(attempts)
                except (ReplicaLost, ShuttingDown) as error:
                    self._count_repeat(attempts, error)
        finally:
            if attempts.waiter is not None:
                attempts.waiter.end()

    def version_of_step(self, version: Version, step: SequenceStep) -> Version:
        """Find the version to read a step whose path names none: the one that has its sequence."""
        return self._sequences.version_of(version, step)

    async def dispatch_anywhere(
        self, version: Version, request: Request, step: SequenceStep
    ) -> tuple[Version, Answer]:
        """Send a step whose path names no version; return the version that answered, too."""
        return await self._sequences.dispatch(version, request, step, may_change=True)

    def _count_repeat(self, attempts: _Attempts, error: ReplicaLost | ShuttingDown) -> None:
        """Count a repeat after `error`, which is raised again if there may be none."""
        may_have_run = isinstance(error, ReplicaLost) and error.blame != "none"
        if may_have_run:
            attempts.reruns += 1
        if attempts.reruns > 1 or len(attempts.tried) > _MAX_REPEATS:
            raise error
        if may_have_run:
            if self._retry_tokens < 1:
                raise error
            self._retry_tokens -= 1
        self._events.request_retried(attempts.version.spec.name)

    async def _wait(self, attempts: _Attempts) -> None:
        """Wait until a replica may be tried, or until the time to wait is over."""
        if attempts.waiter is None:
            attempts.waiter = self._queues.waiter(
                attempts.version.queue, attempts.tried, attempts.deadline_s
            )
        else:
            attempts.waiter.end()  # it was admitted, but the replica was not ready any more
        await self._queues.wait(attempts.waiter)

    def _replicas_changed(self, version: Version) -> None:
        version.queue.advance()
        self._steps_may_go()

    def _steps_may_go(self) -> None:
        self._sequences.replicas_changed()


def _pick(attempts: _Attempts) -> ReplicaClient:
    """Pick a replica that was not tried yet, and record it as tried. Raises NotReady, or
    DeadlineExceeded if no time is left for another one.
    """
    if attempts.tried and monotonic() >= attempts.deadline_s:
        raise DeadlineExceeded("the replica was lost and no time is left to ask another")
    replica = _best(attempts)
    attempts.tried.append(replica)
    return replica


def _best(attempts: _Attempts) -> ReplicaClient:
    """Find the least busy replica that is ready.

    When the time to wait is over a silent one will do: it may be late, a refusal is sure.
    """
    version = attempts.version
    waiter = attempts.waiter
    if waiter is not None or not version.queue.waiters:  # else others came before it
        ready = [r for r in version.clients.values() if r.is_ready and r not in attempts.tried]
        if ready:
            return least_busy(ready)
    if waiter is None or not waiter.is_last_resort:
        raise version.not_ready(may_pass=True)
    silent = [r for r in version.clients.values() if r.is_silent and r not in attempts.tried]
    if not silent:
        raise version.not_ready()
    return least_busy(silent)
