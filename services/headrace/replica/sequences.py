"""The open sequences of a replica: the state that each has come to, and whose turn it is.

A replica that goes away hands them over: each waits its turn for that as a step does.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from types import TracebackType

from headrace.channel import SequenceKey, SequenceSnapshot
from headrace.errors import DeadlineExceeded, Overloaded, QuotaExceeded
from headrace.inference.request import SequenceStep
from headrace.replica.idle import Idle
from headrace.replica.refusals import leaving, moved, shown, unknown
from headrace.replica.states import OpenSequence, State, Turn, fits, next_state, zeros
from headrace.telemetry.events import ReplicaEvents
from headrace_models.spec import SequenceSpec

__all__ = ["MAX_STEPS", "Give", "Sequences", "State", "Turn", "next_state", "zeros"]

# Steps of one sequence that may be here at a time, the one that runs among them.
MAX_STEPS = 16
# Sequences that may be open here when others come from another replica, whoever's they are.
MAX_TAKING_OVER = 20_000
# What is handed over at once, so that no frame grows large and nobody waits long for it.
_HAND_SEQUENCES, _HAND_BYTES = 64, 2 << 20

# Offers sequences to other replicas, and puts into the set those that one took, at once when gateways are told of it.
Give = Callable[[Sequence[SequenceSnapshot], set[SequenceKey]], Awaitable[None]]
_Key = SequenceKey


class Sequences:
    """Keeps the states of sequences between their steps, and runs the steps of each one by one. For one event loop.

    `initial` is the state before a first step. Enter it to keep; leave it to let idle sequences be.
    """

    def __init__(
        self,
        limits: SequenceSpec,
        initial: State,
        events: ReplicaEvents,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._limits = limits
        self._initial = initial
        self._events = events
        self._clock = clock
        self._open: dict[_Key, OpenSequence] = {}
        self._idle = Idle(limits.max_idle_s, clock, self._expire)  # those without a step here
        self._of_key: Counter[str] = Counter()
        self._is_leaving = False
        self._moved: set[_Key] = set()

    async def __aenter__(self) -> "Sequences":
        self._events.watch_sequences(lambda: len(self._open))
        self._idle.is_watching = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._idle.close()

    @property
    def open(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def turn(self, step: SequenceStep, deadline_s: float) -> AsyncIterator[Turn]:
        """Wait until the steps that came before are settled. A turn that ends in an error leaves the state as it was.

        Raises SequenceUnknown, QuotaExceeded, Overloaded, DeadlineExceeded, ShuttingDown or SequenceMoved.
        """
        sequence = self._join(step)
        try:
            await self._wait(sequence, deadline_s)
            try:
                turn = Turn(self._state_for(step, sequence))
                yield turn
                if (
                    self._clock() >= deadline_s
                ):  # the caller was told that it failed, and may repeat it
                    raise DeadlineExceeded("the model did not answer before the deadline")
                sequence.state = None if step.ends else turn.state
            finally:
                sequence.order.release()
        finally:
            self._leave(step, sequence)

    def _join(self, step: SequenceStep) -> OpenSequence:
        key = _Key(step.key_id, step.id)
        sequence = self._open.get(key)
        if sequence is None:
            sequence = self._begin(step, key)
        if sequence.steps >= MAX_STEPS:
            raise Overloaded(
                f"sequence {shown(step)}: {MAX_STEPS} steps wait already", retry_after_s=1
            )
        self._idle.discard(key)
        sequence.steps += 1
        return sequence

    def _begin(self, step: SequenceStep, key: _Key) -> OpenSequence:
        if key in self._moved:
            raise moved(step)
        if not step.starts:
            raise unknown(step)
        if self._is_leaving:
            raise leaving(step)
        most = self._limits.max_open
        if self._of_key[step.key_id] >= most:
            raise QuotaExceeded(
                f"expected at most {most} open sequences, found one more", retry_after_s=1
            )
        self._of_key[step.key_id] += 1
        sequence = self._open[key] = OpenSequence()
        return sequence

    async def _wait(self, sequence: OpenSequence, deadline_s: float) -> None:
        if sequence.steps == 1 and not self._is_leaving:  # nobody is before it
            await sequence.order.acquire()
            return
        try:
            async with asyncio.timeout(deadline_s - self._clock()):
                await sequence.order.acquire()
        except TimeoutError:
            raise DeadlineExceeded(
                "the deadline passed while the step waited for the one before it"
            ) from None

    def _state_for(self, step: SequenceStep, sequence: OpenSequence) -> State:
        if sequence.is_moved:
            raise moved(step)
        if step.starts and sequence.stays:
            raise leaving(step)
        if step.starts:
            return self._initial
        if sequence.state is None:  # it ended, or its first step failed, while this one waited
            raise unknown(step)
        return sequence.state

    def _leave(self, step: SequenceStep, sequence: OpenSequence) -> None:
        sequence.steps -= 1
        if not sequence.is_moved:
            self._rest(_Key(step.key_id, step.id), sequence)

    def _rest(self, key: _Key, sequence: OpenSequence) -> None:
        """A sequence without a step here is idle from now on, or over."""
        if sequence.steps:
            return
        if sequence.state is None:
            self._close(key)
        else:
            self._idle.add(key)

    def _expire(self, keys: Collection[_Key]) -> None:
        for key in keys:
            self._close(key)
        self._events.sequences_expired(len(keys))

    def _close(self, key: _Key) -> None:
        del self._open[key]
        key_id, _ = key
        self._of_key[key_id] -= 1
        if not self._of_key[key_id]:
            del self._of_key[key_id]

    def stop_starting(self) -> None:
        """From now on no sequence starts here, and none is taken over."""
        self._is_leaving = True

    async def hand_over(self, give: Give) -> None:
        """Give every open sequence away, each behind the steps that are here; one that nobody takes stays."""
        self.stop_starting()
        async with asyncio.TaskGroup() as busy:
            idle: list[_Key] = []
            for key in list(self._open):
                sequence = self._open.get(key)
                if sequence is None:  # it ended while others were on their way
                    continue
                if sequence.steps:
                    busy.create_task(self._hand(give, [key]))
                    continue
                idle.append(key)
                if len(idle) == _HAND_SEQUENCES or self._size(idle) >= _HAND_BYTES:
                    await self._hand(give, idle)
                    idle = []
            await self._hand(give, idle)

    def _size(self, keys: Sequence[_Key]) -> int:
        states = (self._open[key].state or {} for key in keys)
        return sum(array.nbytes for state in states for array in state.values())

    async def _hand(self, give: Give, keys: Sequence[_Key]) -> None:
        """Give some sequences away together, once it is the turn of each."""
        held = {key: sequence for key in keys if (sequence := self._open.get(key))}
        taken: list[OpenSequence] = []
        try:
            for sequence in held.values():
                await sequence.order.acquire()
                taken.append(sequence)
            await self._give(give, {key: s for key, s in held.items() if self._open.get(key) is s})
        finally:
            for sequence in taken:
                sequence.order.release()

    async def _give(self, give: Give, held: Mapping[_Key, OpenSequence]) -> None:
        handed = [
            SequenceSnapshot(key, sequence.state)
            for key, sequence in held.items()
            if sequence.state is not None
        ]
        for key in held:
            self._idle.discard(key)
        taken: set[_Key] = set()
        try:
            if handed:
                await give(handed, taken)
        finally:
            for key, sequence in held.items():
                self._settle(key, sequence, is_moved=key in taken)
            self._events.sequences_moved(len(taken))

    def _settle(self, key: _Key, sequence: OpenSequence, *, is_moved: bool) -> None:
        """A sequence is with its successor, or stays."""
        sequence.is_moved, sequence.stays = is_moved, not is_moved
        if is_moved:
            self._moved.add(key)
        if self._open.get(key) is not sequence:  # it expired meanwhile
            return
        self._idle.discard(key)
        if is_moved:
            self._close(key)
        else:
            self._rest(key, sequence)

    def adopt(
        self, kept: Collection[str], handed: Sequence[SequenceSnapshot], like: State
    ) -> list[SequenceKey]:
        """Take sequences over from a replica whose model keeps the states `kept`, if it keeps the same as `like`.

        Those that are here now; their time without a step begins anew.
        """
        if self._is_leaving or set(kept) != like.keys():
            return []
        taken = [each for each in handed if fits(each.state, like)]
        return [each.key for each in taken if self._take(each)]

    def _take(self, handed: SequenceSnapshot) -> bool:
        key = _Key(*handed.key)
        if key in self._open or len(self._open) >= MAX_TAKING_OVER:
            return False
        self._of_key[key.key_id] += 1
        sequence = self._open[key] = OpenSequence(handed.state)
        self._rest(key, sequence)
        return True
