"""Errors that refuse a step of a sequence."""

from headrace.errors import SequenceMoved, SequenceUnknown, ShuttingDown
from headrace.inference.request import SequenceStep

__all__ = ["draining", "sequence_moved", "sequence_unknown", "short_id"]

_ID_CHARS = 64


def sequence_unknown(step: SequenceStep) -> SequenceUnknown:
    return SequenceUnknown(
        f"sequence {short_id(step)}: expected sequence_start, as no such sequence is open"
    )


def sequence_moved(step: SequenceStep) -> SequenceMoved:
    return SequenceMoved(f"sequence {short_id(step)}: another replica has it")


def draining(step: SequenceStep) -> ShuttingDown:
    return ShuttingDown(
        f"sequence {short_id(step)}: the replica is draining and starts no new sequences",
        retry_after_s=1,
    )


def short_id(step: SequenceStep) -> str:
    return step.id if len(step.id) <= _ID_CHARS else f"{step.id[:_ID_CHARS]}…"
