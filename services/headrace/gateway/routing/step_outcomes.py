"""The rules for a step of a sequence that failed at a replica: try another one, or give up.

A step may be repeated only if it surely did not run: the state would count it twice.
"""

from enum import Enum, auto

from headrace.errors import (
    HeadraceError,
    QuotaExceeded,
    ReplicaLost,
    SequenceMoved,
    SequenceUnknown,
    ShuttingDown,
)

__all__ = ["Action", "Outcome", "Relation", "action_after", "outcome_of"]


class Outcome(Enum):
    """The failure of a step at a replica, by what it means for the sequence."""

    MOVED = auto()  # the replica had it, another one has it now
    UNKNOWN = auto()  # the replica does not have it
    REFUSED = auto()  # the replica has no room to start it
    DRAINING = auto()  # the replica takes no more steps of it
    NOT_STARTED = auto()  # the replica drains and starts none
    LOST = auto()  # the replica went away before it answered
    OTHER = auto()


class Relation(Enum):
    """The replica that failed, as the gateway knows it from the sequence table by then."""

    HOLDER = auto()  # it was known to have the sequence, and no other is
    GUESS = auto()  # it was guessed to have it, and no other is known to
    SOURCE = auto()  # the holder took the sequence over from it, with all steps before answered
    STRANGER = auto()  # another replica is known to have it


class Action(Enum):
    RAISE = auto()
    RETRY = auto()  # the step did not run there, and may run elsewhere
    FORGET_AND_RAISE = auto()  # forget the holder
    FORGET_AND_RETRY = auto()

    @property
    def forgets(self) -> bool:
        return self in (Action.FORGET_AND_RAISE, Action.FORGET_AND_RETRY)

    @property
    def retries(self) -> bool:
        return self in (Action.RETRY, Action.FORGET_AND_RETRY)


# Rows: outcomes. Columns: HOLDER, GUESS, SOURCE, STRANGER.
_RULES = {
    Outcome.MOVED: (
        Action.FORGET_AND_RETRY,
        Action.FORGET_AND_RETRY,
        Action.RETRY,
        Action.RETRY,
    ),
    Outcome.UNKNOWN: (
        Action.FORGET_AND_RAISE,
        Action.FORGET_AND_RETRY,
        Action.RETRY,
        Action.RETRY,
    ),
    Outcome.REFUSED: (
        Action.FORGET_AND_RAISE,
        Action.FORGET_AND_RAISE,
        Action.RAISE,
        Action.RAISE,
    ),
    Outcome.DRAINING: (Action.RAISE, Action.RETRY, Action.RETRY, Action.RAISE),
    Outcome.NOT_STARTED: (
        Action.FORGET_AND_RETRY,
        Action.FORGET_AND_RETRY,
        Action.RETRY,
        Action.RAISE,
    ),
    Outcome.LOST: (Action.RAISE, Action.RAISE, Action.RETRY, Action.RAISE),
    Outcome.OTHER: (Action.RAISE, Action.RAISE, Action.RAISE, Action.RAISE),
}
_COLUMNS = {relation: column for column, relation in enumerate(Relation)}


def outcome_of(error: HeadraceError, *, is_first: bool) -> Outcome:
    """Classify an error of a replica; `is_first`: of a step that starts its sequence."""
    match error:
        case SequenceMoved():
            return Outcome.MOVED
        case SequenceUnknown():
            return Outcome.UNKNOWN
        case QuotaExceeded():
            return Outcome.REFUSED
        case ShuttingDown():
            return Outcome.NOT_STARTED if is_first else Outcome.DRAINING
        case ReplicaLost():
            return Outcome.LOST
        case _:
            return Outcome.OTHER


def action_after(outcome: Outcome, relation: Relation) -> Action:
    return _RULES[outcome][_COLUMNS[relation]]
