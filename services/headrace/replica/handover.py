"""The handover of open sequences, from a replica that drains to those that take them over."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack

from headrace.inference.sequences import SequenceKey, SequenceSnapshot
from headrace.replica.open_sequences import OpenSequence, OpenSequences
from headrace.replica.sequence_state import fits

__all__ = ["hand_over", "take_over"]

# The most that is offered at once, so that no frame grows large and no step waits long for it.
_MAX_SEQUENCES = 64
_MAX_BYTES = 2 << 20

# Offers sequences to other replicas. Adds those that one took to the set as soon as gateways are
# told, so that they count as moved even if the rest is cancelled.
Offer = Callable[[Sequence[SequenceSnapshot], set[SequenceKey]], Awaitable[None]]


async def hand_over(sequences: OpenSequences, offer: Offer) -> None:
    """Offer each open sequence once its steps here have ended; those that nobody takes stay."""
    sequences.stop_starting()
    async with asyncio.TaskGroup() as busy:
        idle: dict[SequenceKey, OpenSequence] = {}
        for key in sequences.keys:
            sequence = sequences.find(key)
            if sequence is None:  # it ended while others were handed over
                continue
            if sequence.steps:
                busy.create_task(_offer_together(sequences, {key: sequence}, offer))
                continue
            idle[key] = sequence
            if len(idle) == _MAX_SEQUENCES or _size(idle.values()) >= _MAX_BYTES:
                await _offer_together(sequences, idle, offer)
                idle = {}
        await _offer_together(sequences, idle, offer)


def _size(sequences: Collection[OpenSequence]) -> int:
    return sum(array.nbytes for s in sequences for array in (s.state or {}).values())


async def _offer_together(
    sequences: OpenSequences,
    offered: Mapping[SequenceKey, OpenSequence],
    offer: Offer,
) -> None:
    """Wait for the steps of each of these, then offer those that are still open."""
    async with AsyncExitStack() as locks:
        for sequence in offered.values():
            await locks.enter_async_context(sequence.lock)
        held = {key: s for key, s in offered.items() if sequences.find(key) is s}
        for key in held:
            sequences.hold(key)
        taken: set[SequenceKey] = set()
        try:
            snapshots = [
                SequenceSnapshot(key, s.state) for key, s in held.items() if s.state is not None
            ]
            if snapshots:
                await offer(snapshots, taken)
        finally:
            for key, sequence in held.items():
                if key in taken:
                    sequences.let_go(key, sequence)
                else:
                    sequences.keep(key, sequence)


def take_over(
    sequences: OpenSequences, state_names: Collection[str], snapshots: Sequence[SequenceSnapshot]
) -> list[SequenceKey]:
    """Open sequences of another replica; return those that are here now.

    None is taken unless its model keeps the same states, `state_names`, as this one's.
    """
    taken: list[SequenceKey] = []
    if set(state_names) != sequences.initial.keys():
        return taken
    for snapshot in snapshots:
        if fits(snapshot.state, sequences.initial) and sequences.can_take_over(snapshot.key):
            sequences.open_taken(snapshot)
            taken.append(snapshot.key)
    return taken
