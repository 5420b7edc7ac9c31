"""Rules for failed steps of sequences: none that may have run is repeated."""

from itertools import product

import pytest

from headrace.errors import (
    DeadlineExceeded,
    HeadraceError,
    NotReady,
    QuotaExceeded,
    ReplicaLost,
    SequenceMoved,
    SequenceUnknown,
    ShuttingDown,
)
from headrace.gateway.routing.step_failures import (
    Action,
    Relation,
    StepFailure,
    action_after,
    failure_of,
)


def test_every_failure_has_a_rule_for_every_relation() -> None:
    for failure, relation in product(StepFailure, Relation):
        assert isinstance(action_after(failure, relation), Action)


@pytest.mark.parametrize(
    ("error", "is_first", "failure"),
    [
        (SequenceMoved("another replica has it"), False, StepFailure.MOVED),
        (SequenceUnknown("no such sequence"), False, StepFailure.UNKNOWN),
        (QuotaExceeded("too many", 1), True, StepFailure.REFUSED),
        (ShuttingDown("it drains", 1), False, StepFailure.DRAINING),
        (ShuttingDown("it drains", 1), True, StepFailure.NOT_STARTED),
        (ReplicaLost("it went away", 1), True, StepFailure.LOST),
        (NotReady("not now", 1), True, StepFailure.OTHER),
        (DeadlineExceeded("too late"), False, StepFailure.OTHER),
    ],
)
def test_an_error_is_classified(
    error: HeadraceError, failure: StepFailure, *, is_first: bool
) -> None:
    assert failure_of(error, is_first=is_first) is failure


@pytest.mark.parametrize("relation", Relation)
def test_what_is_lost_with_its_replica_is_repeated_only_at_that_ones_successor(
    relation: Relation,
) -> None:
    retries = action_after(StepFailure.LOST, relation).retries
    assert retries == (relation is Relation.SOURCE)


@pytest.mark.parametrize("relation", Relation)
def test_other_failures_are_not_repeated_and_change_nothing(relation: Relation) -> None:
    assert action_after(StepFailure.OTHER, relation) is Action.RAISE


@pytest.mark.parametrize("failure", StepFailure)
def test_a_holder_that_is_another_replica_is_not_forgotten(failure: StepFailure) -> None:
    for relation in (Relation.SOURCE, Relation.STRANGER):
        assert not action_after(failure, relation).forgets


def test_a_holder_that_does_not_have_the_sequence_is_forgotten_but_not_replaced() -> None:
    assert action_after(StepFailure.UNKNOWN, Relation.HOLDER) is Action.FORGET_AND_RAISE
    assert action_after(StepFailure.UNKNOWN, Relation.GUESS) is Action.FORGET_AND_RETRY


def test_a_sequence_that_a_draining_replica_does_not_start_starts_elsewhere() -> None:
    assert action_after(StepFailure.NOT_STARTED, Relation.HOLDER) is Action.FORGET_AND_RETRY
    assert action_after(StepFailure.DRAINING, Relation.HOLDER) is Action.RAISE
