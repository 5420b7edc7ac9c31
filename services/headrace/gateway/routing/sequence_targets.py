"""The replica to send a step to: the sequence's holder, or a guess where it is or begins."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from headrace.channel import ReplicaClient
from headrace.errors import HeadraceError, NotReady, SequenceLost, SequenceMoved
from headrace.gateway.routing.sequence_table import Holder
from headrace.gateway.routing.version import Version
from headrace.inference.request import SequenceStep
from headrace.inference.sequences import SequenceKey, home_of, sequence_name

__all__ = ["Models", "Search", "Target", "name_of", "target_of", "usable", "version_with"]

# Versions by model, newest first.
Models = Mapping[str, Mapping[str, Version]]


class Target(NamedTuple):
    """A replica to send a step to.

    `is_held`: the sequence is known to be there. Else it may be there, or it begins there.
    """

    id: str
    version: Version
    client: ReplicaClient
    is_held: bool


@dataclass(slots=True, kw_only=True)
class Search:
    """A step on its way: the version that read it, and the errors of the replicas it was sent to.

    Only if it `may_change` may another version answer.
    """

    version: Version
    step: SequenceStep
    name: str  # of the sequence, in the fleet
    deadline_s: float
    wait_until_s: float
    may_change: bool
    tried: dict[str, HeadraceError] = field(default_factory=dict)

    def scope(self, models: Models) -> Collection[Version]:
        """The versions that may answer."""
        if self.may_change:
            return models.get(self.version.spec.name, {}).values()
        return [self.version]


def name_of(version: Version, step: SequenceStep) -> str:
    return sequence_name(version.spec.name, SequenceKey(step.key_id, step.id))


def version_with(models: Models, model: str, replica: str) -> Version | None:
    """Find the version of a model that has this replica in the fleet."""
    for version in models.get(model, {}).values():
        if replica in version.members:
            return version
    return None


def usable(models: Models, search: Search, holder: Holder) -> bool:
    """Tell whether a step can go to the sequence's holder; if not, it needs no state of that one.

    Raises SequenceLost if it needs the state and cannot get at it.
    """
    home = version_with(models, search.version.spec.name, holder.id)
    if home in search.scope(models):
        return True
    if search.step.starts:
        return False
    if home is None:
        raise SequenceLost(
            "the sequence's state was lost with its replica; start it again with sequence_start"
        )
    if holder.successor_of:
        raise SequenceLost(
            "the sequence has moved to another version; name no version in the path, or start it "
            "again with sequence_start"
        )
    return False  # a sequence of the same name in another version


def target_of(models: Models, search: Search, holder: Holder | None) -> Target:
    """Pick the replica to send the step to next, given a usable holder, if any.

    Raises NotReady if it cannot be reached now, or the last error if no other replica is left.
    """
    scope = search.scope(models)
    if holder is not None and holder.id not in search.tried:
        return _target(scope, holder.id, is_held=True)
    return _target(scope, _guess(scope, search), is_held=False)


def _target(scope: Collection[Version], replica: str, *, is_held: bool) -> Target:
    for version in scope:
        client = version.clients.get(replica)
        if client is not None and client.takes_steps:
            return Target(replica, version, client, is_held)
    raise _unreachable()


def _guess(scope: Collection[Version], search: Search) -> str:
    """Guess where an unknown sequence begins or is: at its home, or else anywhere it may have gone.

    Raises NotReady if no replica can be reached, SequenceLost or the last error if all were tried.
    """
    candidates = [
        replica
        for replica, client in search.version.clients.items()
        if client.is_ready and replica not in search.tried
    ]
    if not candidates and not search.step.starts:
        candidates = [
            replica
            for version in scope
            for replica, client in version.clients.items()
            if client.takes_steps and replica not in search.tried
        ]
    if candidates:
        return home_of(search.name, candidates)
    if not search.tried:
        raise _unreachable()
    last = list(search.tried.values())[-1]
    if isinstance(last, SequenceMoved):
        raise SequenceLost(
            "the sequence was moved and can no longer be found; start it again with sequence_start"
        )
    raise last


def _unreachable() -> NotReady:
    """The sequence's replica cannot be reached now, but nothing is lost yet: the step may wait."""
    return NotReady("the sequence's replica cannot be reached now", retry_after_s=1, may_pass=True)
