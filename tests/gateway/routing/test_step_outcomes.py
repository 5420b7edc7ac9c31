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
from headrace.gateway.routing.step_outcomes import (
    Action,
    Outcome,
    Relation,
    action_after,
    outcome_of,
)


def test_every_failure_has_a_rule_for_every_relation() -> None:
    for outcome, relation in product(Outcome, Relation):
        assert isinstance(action_after(outcome, relation), Action)


@pytest.mark.parametrize(
    ("error", "is_first", "outcome"),
    [
        (SequenceMoved("another replica has it"), False, Outcome.MOVED),
        (SequenceUnknown("no such sequence"), False, Outcome.UNKNOWN),
        (QuotaExceeded("too many", 1), True, Outcome.REFUSED),
        (ShuttingDown("it drains", 1), False, Outcome.DRAINING),
        (ShuttingDown("it drains", 1), True, Outcome.NOT_STARTED),
        (ReplicaLost("it went away", 1), True, Outcome.LOST),
        (NotReady("not now", 1), True, Outcome.OTHER),
        (DeadlineExceeded("too late"), False, Outcome.OTHER),
    ],
)
def test_an_error_is_classified(error: HeadraceError, outcome: Outcome, *, is_first: bool) -> None:
    assert outcome_of(error, is_first=is_first) is outcome


@pytest.mark.parametrize("relation", Relation)
def test_what_is_lost_with_its_replica_is_repeated_only_at_that_ones_successor(
    relation: Relation,
) -> None:
    retries = action_after(Outcome.LOST, relation).retries
    assert retries == (relation is Relation.SOURCE)


@pytest.mark.parametrize("relation", Relation)
def test_other_failures_are_not_repeated_and_change_nothing(relation: Relation) -> None:
    assert action_after(Outcome.OTHER, relation) is Action.RAISE


@pytest.mark.parametrize("outcome", Outcome)
def test_a_holder_that_is_another_replica_is_not_forgotten(outcome: Outcome) -> None:
    for relation in (Relation.SOURCE, Relation.STRANGER):
        assert not action_after(outcome, relation).forgets


def test_a_holder_that_does_not_have_the_sequence_is_forgotten_but_not_replaced() -> None:
    assert action_after(Outcome.UNKNOWN, Relation.HOLDER) is Action.FORGET_AND_RAISE
    assert action_after(Outcome.UNKNOWN, Relation.GUESS) is Action.FORGET_AND_RETRY


def test_a_sequence_that_a_draining_replica_does_not_start_starts_elsewhere() -> None:
    assert action_after(Outcome.NOT_STARTED, Relation.HOLDER) is Action.FORGET_AND_RETRY
    assert action_after(Outcome.DRAINING, Relation.HOLDER) is Action.RAISE
