"""One timer watches all idle sequences, and is left alone by their steps."""

import asyncio
from collections.abc import Collection

from tests.replica.sums import on_virtual_time

from headrace.inference.sequences import SequenceKey
from headrace.process.lazy_timer import LazyTimer
from headrace.replica.idle import IdleSequences

KEYS = [SequenceKey("key", str(n)) for n in range(100)]


class CountingTimer(LazyTimer):
    sets = 0

    def set(self, deadline_s: float) -> None:
        CountingTimer.sets += 1
        super().set(deadline_s)


@on_virtual_time
async def test_a_step_looks_for_no_deadline_while_the_timer_is_set() -> None:
    clock = asyncio.get_running_loop().time
    expired: list[tuple[float, int]] = []

    def expire(keys: Collection[SequenceKey]) -> None:
        expired.append((clock(), len(keys)))

    CountingTimer.sets = 0
    idle = IdleSequences(60.0, clock, expire, CountingTimer)
    idle.is_watching = True
    for _ in range(10):
        for key in KEYS:
            idle.discard(key)
            idle.add(key)
        await asyncio.sleep(1.0)
    assert CountingTimer.sets == 1
    await asyncio.sleep(100.0)
    # It came once for the first deadline, which had moved, and once for the last ones.
    assert (CountingTimer.sets, expired) == (2, [(69.0, len(KEYS))])
