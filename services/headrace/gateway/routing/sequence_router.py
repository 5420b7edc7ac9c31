"""Where a step of a sequence goes: to the replica that has the state, also when that moves, and to no other."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from headrace.channel import ReplicaClient, SequenceKey, home_of, sequence_name
from headrace.errors import (
    DeadlineExceeded,
    HeadraceError,
    NotReady,
    QuotaExceeded,
    ReplicaLost,
    SequenceLost,
    SequenceMoved,
    SequenceUnknown,
    ShuttingDown,
)
from headrace.gateway.routing.quarantine import Quarantine
from headrace.gateway.routing.sequence_table import Holder, SequenceTable
from headrace.gateway.routing.step_order import StepOrder, Turn
from headrace.gateway.routing.waiting import WaitQueue, until_s
from headrace.inference.request import Answer, Request, SequenceStep

if TYPE_CHECKING:
    from headrace.gateway.routing.router import Version

__all__ = ["SequenceRouter"]

# Replicas that are asked for one step, one after the other.
_MAX_ASKED = 12
# How long an successor may take until it can be asked.
_SUCCESSOR_S = 1.0
# A replica that ends with these has not run the steps that are not answered, if it has told of an successor.
_NOTHING_RAN = (ReplicaLost, ShuttingDown)


class _Place(NamedTuple):
    """A replica to ask. `is_held`: the sequence is known to be there; else it is looked for there, or begins there."""

    id: str
    version: "Version"
    client: ReplicaClient
    is_held: bool


@dataclass(slots=True)
class _Search:
    """A step on its way: which version read it, and what the replicas that were tried said."""

    version: "Version"
    step: SequenceStep
    deadline_s: float
    patient_until_s: float
    may_change: bool
    tried: dict[str, HeadraceError] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return _name(self.version, self.step)


class SequenceRouter:
    """SequenceRouter of sequences of `models` (name -> version, newest first -> its replicas)."""

    def __init__(
        self,
        models: Mapping[str, Mapping[str, "Version"]],
        quarantine: Quarantine,
        patience: WaitQueue,
    ) -> None:
        self._models = models
        self._quarantine = quarantine
        self._patience = patience
        self._holders = SequenceTable()
        self._turns = StepOrder()

    def replicas_changed(self) -> None:
        """A replica can be asked that could not be before, or has gone."""
        self._turns.changed()

    def moved(
        self, model: str, source: str, successor: str, sequences: Collection[SequenceKey]
    ) -> None:
        """A replica of a model said that another one has these sequences now."""
        for key in sequences:
            self._holders.move(sequence_name(model, key), source, successor)
        self._turns.changed()

    def version_of(self, version: "Version", step: SequenceStep) -> "Version":
        """The version in which the sequence is known to be, or where it begins."""
        holder = self._holders.find(_name(version, step))
        return (self._version_with(version, holder.id) if holder else None) or version

    async def dispatch(
        self, version: "Version", request: Request, step: SequenceStep, *, may_change: bool
    ) -> tuple["Version", Answer]:
        """The version that answered, and the answer; only if it `may_change` the version may be another one."""
        search = _Search(version, step, request.deadline_s, until_s(request.deadline_s), may_change)
        with self._turns.join(search.name) as turn:
            for left in reversed(range(_MAX_ASKED)):
                place = await self._turn_at_place(search, turn)
                try:
                    answer = await self._quarantine.guard(
                        place.version.spec, request, partial(self._go, turn, place)
                    )
                except HeadraceError as error:
                    if not (self._goes_on(search, place, error) and left):
                        raise
                    continue
                if step.ends:
                    self._holders.forget(search.name)
                elif (
                    self._holders.find(search.name) is None
                ):  # else it may have been moved since it was answered
                    self._holders.hold(search.name, place.id)
                return place.version, answer
        raise AssertionError("the last one asked has answered or failed")

    async def _turn_at_place(self, search: _Search, turn: Turn) -> _Place:
        """Where to ask next, once all steps that came before are there too, or settled."""
        while monotonic() < search.deadline_s:
            place = await self._place_in_time(search)
            if not self._turns.may_go(search.name, turn, place.id):
                await self._turns.change(search.deadline_s)
                continue
            _check_alike(search.version, place.version)
            if place.is_held or search.step.starts:
                self._holders.hold(search.name, place.id)
            return place
        raise DeadlineExceeded("the deadline passed while the step waited for its sequence")

    async def _place_in_time(self, search: _Search) -> _Place:
        """Where to ask next, waiting for a replica that is silent or not connected; one that is gone ends the wait.

        No silent one is asked in the end: so a step that is refused did not run, and may be repeated.
        """
        try:
            return await self._place(search)
        except NotReady as error:
            if not error.may_pass:
                raise
        with self._patience.holding(search.version.line):
            while True:
                is_late = monotonic() >= search.patient_until_s or not self._is_served(
                    search.version
                )
                try:
                    return await self._place(search)
                except NotReady as error:
                    if search.version.trouble:
                        raise search.version.not_ready() from None
                    if is_late or not error.may_pass:
                        raise
                await self._turns.change(search.patient_until_s)

    def _go(self, turn: Turn, place: _Place) -> ReplicaClient:
        """The replica, at the moment of asking it: until then, steps behind this one wait."""
        self._turns.go(turn, place.id)
        return place.client

    def _goes_on(self, search: _Search, place: _Place, error: HeadraceError) -> bool:
        """Whether a step that this replica did not run may be asked of another one."""
        holder = self._holders.find(search.name)
        search.tried[place.id] = error
        if holder is not None and holder.id != place.id:
            search.tried.pop(holder.id, None)
            # A replica that is lost had told of the successor when all that had run was answered.
            is_successor = holder.successor_of == place.id
            return isinstance(error, SequenceMoved | SequenceUnknown) or (
                is_successor and isinstance(error, _NOTHING_RAN)
            )
        if isinstance(error, SequenceMoved | SequenceUnknown | QuotaExceeded):
            self._holders.forget(search.name)  # the replica holds nothing of it
        if isinstance(error, ShuttingDown) and search.step.starts:
            self._holders.forget(search.name)
            return True
        return isinstance(error, SequenceMoved) or (
            isinstance(error, SequenceUnknown | ShuttingDown) and not place.is_held
        )

    async def _place(self, search: _Search) -> _Place:
        """The replica to ask next. Raises SequenceLost, NotReady, or what the last one said if there is no other."""
        holder = self._holders.find(search.name)
        if holder is not None:
            holder = await self._arrived(search, holder)
        if holder is not None and holder.id not in search.tried:
            return _client(self._scope(search), holder.id, is_held=True)
        scope = self._scope(search)
        return _client(scope, _guess(scope, search), is_held=False)

    def _scope(self, search: _Search) -> Collection["Version"]:
        """The versions that may answer."""
        return (
            self._models.get(search.version.spec.name, {}).values()
            if search.may_change
            else [search.version]
        )

    async def _arrived(self, search: _Search, holder: Holder) -> Holder | None:
        """What to make of a holder: None if it is gone and the step needs none of it. Raises SequenceLost.

        An successor may have to be waited for, since whoever told of it may know more of the fleet than this gateway.
        """
        until_s = min(search.deadline_s, monotonic() + _SUCCESSOR_S)
        while holder.successor_of and not self._version_with(
            search.version, holder.id, can_be_asked=True
        ):
            if monotonic() >= until_s:
                break
            await self._turns.change(until_s)
        home = self._version_with(search.version, holder.id)
        if home in self._scope(search):
            return holder
        if search.step.starts or (
            home is not None and not holder.successor_of
        ):  # of the same name in another version
            return None
        if home is not None:
            raise SequenceLost(
                "the sequence has moved to another version: name none in the path, or begin it again"
            )
        raise SequenceLost(
            "the sequence's state was lost with its replica: begin it again, by sequence_start"
        )

    def _is_served(self, version: "Version") -> bool:
        return self._models.get(version.spec.name, {}).get(version.spec.version) is version

    def _version_with(
        self, version: "Version", replica: str, *, can_be_asked: bool = False
    ) -> "Version | None":
        for one in self._models.get(version.spec.name, {}).values():
            if replica in one.members:
                client = one.replicas.get(replica)
                return (
                    one if not can_be_asked or (client is not None and client.takes_steps) else None
                )
        return None


def _away() -> NotReady:
    """The replica cannot be asked now: nothing is lost yet, so that one may wait for it."""
    return NotReady("the sequence's replica cannot be asked now", retry_after_s=1, may_pass=True)


def _name(version: "Version", step: SequenceStep) -> str:
    return sequence_name(version.spec.name, SequenceKey(step.key_id, step.id))


def _client(scope: Collection["Version"], replica: str, *, is_held: bool) -> _Place:
    for version in scope:
        client = version.replicas.get(replica)
        if client is not None and client.takes_steps:
            return _Place(replica, version, client, is_held)
    raise _away()


def _guess(scope: Collection["Version"], search: _Search) -> str:
    """Where a sequence begins that is not known here, or where it may be: its home, then wherever it may have gone."""
    homes = [
        i
        for i, client in search.version.replicas.items()
        if client.is_ready and i not in search.tried
    ]
    if not homes and not search.step.starts:
        homes = [
            i
            for v in scope
            for i, client in v.replicas.items()
            if client.takes_steps and i not in search.tried
        ]
    if homes:
        return home_of(search.name, homes)
    if not search.tried:
        raise _away()
    last = list(search.tried.values())[-1]
    if isinstance(last, SequenceMoved):
        raise SequenceLost(
            "the sequence has moved to where it is not found: begin it again, by sequence_start"
        )
    raise last


def _check_alike(read_for: "Version", found: "Version") -> None:
    """A step was read by one version's spec. Raises NotReady where another one would read it differently."""
    one, other = read_for.spec, found.spec
    if found is not read_for and (one.inputs, one.outputs, one.preprocess) != (
        other.inputs,
        other.outputs,
        other.preprocess,
    ):
        raise NotReady(
            "the sequence has just moved to another version: repeat the step", retry_after_s=1
        )
