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

__all__ = ["Action", "Relation", "StepFailure", "action_after", "failure_of"]


class StepFailure(Enum):
    """A step's failure at a replica, by what it says about the sequence."""

    MOVED = auto()  # the replica had it, another one has it now
    UNKNOWN = auto()  # the replica does not have it
    REFUSED = auto()  # the replica has no room to start it
    DRAINING = auto()  # the replica takes no more steps of it
    NOT_STARTED = auto()  # the replica drains and starts none
    LOST = auto()  # the replica went away before it answered
    OTHER = auto()


class Relation(Enum):
    """The failed replica's relation to the sequence, by the sequence table after the failure."""

    HOLDER = auto()  # the gateway knew that it has the sequence, and knows of no other now
    GUESS = auto()  # the gateway guessed that it has it, and knows of no other now
    SOURCE = auto()  # it answered all earlier steps, then the holder took the sequence over from it
    STRANGER = auto()  # the gateway knows that another replica has it


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


# Rows: failures. Columns: HOLDER, GUESS, SOURCE, STRANGER.
_RULES = {
    StepFailure.MOVED: (
        Action.FORGET_AND_RETRY,
        Action.FORGET_AND_RETRY,
        Action.RETRY,
        Action.RETRY,
    ),
    StepFailure.UNKNOWN: (
        Action.FORGET_AND_RAISE,
        Action.FORGET_AND_RETRY,
        Action.RETRY,
        Action.RETRY,
    ),
    StepFailure.REFUSED: (
        Action.FORGET_AND_RAISE,
        Action.FORGET_AND_RAISE,
        Action.RAISE,
        Action.RAISE,
    ),
    StepFailure.DRAINING: (Action.RAISE, Action.RETRY, Action.RETRY, Action.RAISE),
    StepFailure.NOT_STARTED: (
        Action.FORGET_AND_RETRY,
        Action.FORGET_AND_RETRY,
        Action.RETRY,
        Action.RAISE,
    ),
    StepFailure.LOST: (Action.RAISE, Action.RAISE, Action.RETRY, Action.RAISE),
    StepFailure.OTHER: (Action.RAISE, Action.RAISE, Action.RAISE, Action.RAISE),
}
_COLUMNS = {relation: column for column, relation in enumerate(Relation)}


def failure_of(error: HeadraceError, *, is_first: bool) -> StepFailure:
    """Classify an error of a replica; `is_first`: of a step that starts its sequence."""
    match error:
        case SequenceMoved():
            return StepFailure.MOVED
        case SequenceUnknown():
            return StepFailure.UNKNOWN
        case QuotaExceeded():
            return StepFailure.REFUSED
        case ShuttingDown():
            return StepFailure.NOT_STARTED if is_first else StepFailure.DRAINING
        case ReplicaLost():
            return StepFailure.LOST
        case _:
            return StepFailure.OTHER


def action_after(failure: StepFailure, relation: Relation) -> Action:
    return _RULES[failure][_COLUMNS[relation]]
