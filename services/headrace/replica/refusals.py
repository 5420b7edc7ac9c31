"""Why a step is not taken, in words."""

from headrace.errors import SequenceMoved, SequenceUnknown, ShuttingDown
from headrace.inference.request import SequenceStep

__all__ = ["leaving", "moved", "shown", "unknown"]

_SHOWN_CHARS = 64


def unknown(step: SequenceStep) -> SequenceUnknown:
    return SequenceUnknown(
        f"sequence {shown(step)}: expected sequence_start, as no such sequence is open"
    )


def moved(step: SequenceStep) -> SequenceMoved:
    return SequenceMoved(f"sequence {shown(step)}: another replica has it")


def leaving(step: SequenceStep) -> ShuttingDown:
    return ShuttingDown(
        f"sequence {shown(step)}: none starts in a replica that goes away", retry_after_s=1
    )


def shown(step: SequenceStep) -> str:
    return step.id if len(step.id) <= _SHOWN_CHARS else f"{step.id[:_SHOWN_CHARS]}…"
