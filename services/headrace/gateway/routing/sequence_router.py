"""Sends the steps of sequences to the replicas that have their states, also while these move."""

from collections.abc import Collection
from functools import partial
from time import monotonic

from headrace.channel import ReplicaClient
from headrace.errors import DeadlineExceeded, HeadraceError, NotReady
from headrace.gateway.routing.quarantine import Quarantine
from headrace.gateway.routing.sequence_table import Holder, SequenceTable
from headrace.gateway.routing.sequence_targets import (
    Models,
    Search,
    Target,
    name_of,
    target_of,
    usable,
    version_with,
)
from headrace.gateway.routing.step_failures import Action, Relation, action_after, failure_of
from headrace.gateway.routing.step_order import QueuedStep, StepOrder
from headrace.gateway.routing.version import Version
from headrace.gateway.routing.waiting import WaitQueues, wait_until_s
from headrace.inference.request import Answer, Request, SequenceStep
from headrace.inference.sequences import SequenceKey, sequence_name

__all__ = ["SequenceRouter"]

# Replicas that one step is sent to, one after the other.
_MAX_TARGETS = 12
# How long to wait for a successor of which this gateway does not know yet.
_SUCCESSOR_S = 1.0


class SequenceRouter:
    """Sends a step to the holder of its sequence, in the order in which the steps came.

    A holder is a replica that this gateway sent a step to, or that took the sequence over.
    """

    def __init__(self, models: Models, quarantine: Quarantine, queues: WaitQueues) -> None:
        self._models = models
        self._quarantine = quarantine
        self._queues = queues
        self._table = SequenceTable()
        self._order = StepOrder()

    def replicas_changed(self) -> None:
        """Try again the steps that wait: a replica has become ready, or has gone."""
        self._order.notify()

    def moved(
        self, model: str, source: str, successor: str, sequences: Collection[SequenceKey]
    ) -> None:
        """Note that a replica of a model has taken these sequences over."""
        for key in sequences:
            self._table.move(sequence_name(model, key), source, successor)
        self._order.notify()

    def version_of(self, version: Version, step: SequenceStep) -> Version:
        """Find the version that has the sequence; `version` if none is known to."""
        holder = self._table.find(name_of(version, step))
        if holder is None:
            return version
        return version_with(self._models, version.spec.name, holder.id) or version

    async def dispatch(
        self, version: Version, request: Request, step: SequenceStep, *, may_change: bool
    ) -> tuple[Version, Answer]:
        """Return the version that answered, and its answer.

        Only if it `may_change` another version than the given one may answer.
        """
        search = Search(
            version=version,
            step=step,
            name=name_of(version, step),
            deadline_s=request.deadline_s,
            wait_until_s=wait_until_s(request.deadline_s),
            may_change=may_change,
        )
        with self._order.join(search.name) as queued:
            for number in range(1, _MAX_TARGETS + 1):
                target = await self._next_target(search, queued)
                pick = partial(self._go, queued, target)
                try:
                    answer = await self._quarantine.guard(target.version.spec, request, pick)
                except HeadraceError as error:
                    holder = self._table.find(search.name)
                    action = _action(search, target, holder, error)
                    if action.forgets:
                        self._table.forget(search.name)
                    if not action.retries or number == _MAX_TARGETS:
                        raise
                    search.tried[target.id] = error
                    if holder is not None and holder.id != target.id:
                        search.tried.pop(holder.id, None)  # the sequence came there since
                    continue
                self._answered(search, target)
                return target.version, answer
        raise AssertionError("the last target has answered or failed")

    def _go(self, queued: QueuedStep, target: Target) -> ReplicaClient:
        """Note that the step goes to its target, right before it does: later ones may follow."""
        self._order.go(queued, target.id)
        return target.client

    def _answered(self, search: Search, target: Target) -> None:
        if search.step.ends:
            self._table.forget(search.name)
        elif self._table.find(search.name) is None:  # else it may have moved since
            self._table.hold(search.name, target.id)

    async def _next_target(self, search: Search, queued: QueuedStep) -> Target:
        """Wait until there is a target, and all earlier steps went there too or have ended."""
        while monotonic() < search.deadline_s:
            target = await self._wait_for_target(search)
            if not self._order.may_go(search.name, queued, target.id):
                await self._order.wait_changed(search.deadline_s)
                continue
            _check_alike(search.version, target.version)
            if target.is_held or search.step.starts:
                self._table.hold(search.name, target.id)
            return target
        raise DeadlineExceeded("the deadline passed while the step waited for its sequence")

    async def _wait_for_target(self, search: Search) -> Target:
        """Wait for a target that is silent or not connected; one that is gone ends the wait.

        Unlike other requests a step is never sent to a silent replica: so a step that is refused
        did not run, and may be repeated.
        """
        try:
            return await self._find_target(search)
        except NotReady as error:
            if not error.may_pass:
                raise
        with self._queues.counted(search.version.queue):
            while True:
                is_last = monotonic() >= search.wait_until_s or not self._is_served(search.version)
                try:
                    return await self._find_target(search)
                except NotReady as error:
                    if search.version.trouble:
                        raise search.version.not_ready() from None
                    if is_last or not error.may_pass:
                        raise
                await self._order.wait_changed(search.wait_until_s)

    async def _find_target(self, search: Search) -> Target:
        """Find the replica to send the step to next.

        Raises SequenceLost, NotReady, or the last error if no other replica is left.
        """
        holder = self._table.find(search.name)
        if holder is not None:
            await self._wait_until_reachable(search, holder)
            if not usable(self._models, search, holder):
                holder = None
        return target_of(self._models, search, holder)

    async def _wait_until_reachable(self, search: Search, holder: Holder) -> None:
        """Wait a moment for a successor: its source may know the fleet better than this gateway."""
        until_s = min(search.deadline_s, monotonic() + _SUCCESSOR_S)
        while holder.successor_of and not self._takes_steps(search, holder.id):
            if monotonic() >= until_s:
                return
            await self._order.wait_changed(until_s)

    def _takes_steps(self, search: Search, replica: str) -> bool:
        version = version_with(self._models, search.version.spec.name, replica)
        client = version.clients.get(replica) if version else None
        return client is not None and client.takes_steps

    def _is_served(self, version: Version) -> bool:
        return self._models.get(version.spec.name, {}).get(version.spec.version) is version


def _action(search: Search, target: Target, holder: Holder | None, error: HeadraceError) -> Action:
    """Look up what to do after a step failed at a target, given the sequence's holder now."""
    failure = failure_of(error, is_first=search.step.starts)
    if holder is None or holder.id == target.id:
        return action_after(failure, Relation.HOLDER if target.is_held else Relation.GUESS)
    is_source = holder.successor_of == target.id
    return action_after(failure, Relation.SOURCE if is_source else Relation.STRANGER)


def _check_alike(read_for: Version, found: Version) -> None:
    """Raise NotReady where the version of the target would read the step differently."""
    if found is read_for:
        return
    one, other = read_for.spec, found.spec
    if (one.inputs, one.outputs, one.preprocess) != (other.inputs, other.outputs, other.preprocess):
        raise NotReady(
            "the sequence has just moved to another version; repeat the step", retry_after_s=1
        )
