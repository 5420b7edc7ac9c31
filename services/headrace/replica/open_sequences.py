"""The open sequences of a replica: the state of each, and the order of its steps."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from time import monotonic
from types import TracebackType

from headrace.errors import DeadlineExceeded, Overloaded, QuotaExceeded
from headrace.inference.request import SequenceStep
from headrace.inference.sequences import SequenceKey, SequenceSnapshot
from headrace.replica.idle import IdleSequences
from headrace.replica.refusals import draining, sequence_moved, sequence_unknown, short_id
from headrace.replica.sequence_state import State
from headrace.telemetry.events import ReplicaEvents
from headrace_models.spec import SequenceSpec

__all__ = ["MAX_STEPS", "OpenSequence", "OpenSequences"]

# Steps of one sequence that may be here at a time, including the one that runs.
MAX_STEPS = 16
# Open sequences, of all keys together, beyond which none is taken over from other replicas.
MAX_TAKING_OVER = 20_000


class Stage(Enum):
    """A sequence's way to another replica."""

    HERE = "not offered yet"
    MOVED = "with another replica"
    STAYS = "here until this replica ends, as no other took it"


@dataclass(slots=True, eq=False)
class OpenSequence:
    """`state` is None until a step succeeds; `steps` are here, including the one that runs."""

    state: State | None = None
    steps: int = 0
    stage: Stage = Stage.HERE
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # first come, first served


@dataclass(slots=True)
class RunningStep:
    """`state` is what the model takes. Set it to what the step leaves, to keep if it succeeds."""

    state: State


class OpenSequences:
    """Keeps sequences' states between their steps, and runs each one's steps one by one.

    `initial` is the state before a first step. For one event loop. Idle sequences expire while the
    context is open.
    """

    def __init__(
        self,
        limits: SequenceSpec,
        initial: State,
        events: ReplicaEvents,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._limits = limits
        self.initial = initial
        self._events = events
        self._clock = clock
        self._open: dict[SequenceKey, OpenSequence] = {}
        # Those without a step here.
        self._idle = IdleSequences(limits.max_idle_s, clock, self._expire)
        self._open_of_key: Counter[str] = Counter()
        # The first moment of a drain: no sequence starts, and none is taken over. Then those that
        # are here are handed over, and at last the steps of those that stay are answered.
        self._starts_none = False
        self._moved: set[SequenceKey] = set()

    async def __aenter__(self) -> "OpenSequences":
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
    async def run_step(self, step: SequenceStep, deadline_s: float) -> AsyncIterator[RunningStep]:
        """Wait for the steps before this one, then run it.

        A step that ends in an error or too late leaves the state as it was. Raises SequenceUnknown,
        QuotaExceeded, Overloaded, DeadlineExceeded, ShuttingDown or SequenceMoved.
        """
        sequence = self._join(step)
        try:
            await self._acquire(sequence, deadline_s)
            try:
                running = RunningStep(self._state_for(step, sequence))
                yield running
                # The caller of a late step has been told that it failed, and may repeat it.
                if self._clock() >= deadline_s:
                    raise DeadlineExceeded(
                        "the step ended after its deadline, and left the sequence as it was"
                    )
                sequence.state = None if step.ends else running.state
            finally:
                sequence.lock.release()
        finally:
            sequence.steps -= 1
            if sequence.stage is not Stage.MOVED:
                self._rest(SequenceKey(step.key_id, step.id), sequence)

    def _join(self, step: SequenceStep) -> OpenSequence:
        key = SequenceKey(step.key_id, step.id)
        sequence = self._open.get(key)
        if sequence is None:
            sequence = self._start(step, key)
        if sequence.steps >= MAX_STEPS:
            raise Overloaded(
                f"sequence {short_id(step)}: expected at most {MAX_STEPS} steps at a time; "
                "send the next one when one is answered",
                retry_after_s=1,
            )
        self._idle.discard(key)
        sequence.steps += 1
        return sequence

    def _start(self, step: SequenceStep, key: SequenceKey) -> OpenSequence:
        if key in self._moved:
            raise sequence_moved(step)
        if not step.starts:
            raise sequence_unknown(step)
        if self._starts_none:
            raise draining(step)
        most = self._limits.max_open
        if self._open_of_key[step.key_id] >= most:
            raise QuotaExceeded(
                f"expected at most {most} open sequences, found one more; end one by sequence_end",
                retry_after_s=1,
            )
        return self._add(key, OpenSequence())

    async def _acquire(self, sequence: OpenSequence, deadline_s: float) -> None:
        if sequence.steps == 1 and not self._starts_none:  # nothing holds the lock
            await sequence.lock.acquire()
            return
        try:
            async with asyncio.timeout(deadline_s - self._clock()):
                await sequence.lock.acquire()
        except TimeoutError:
            raise DeadlineExceeded(
                "the deadline passed while the step waited for the one before it"
            ) from None

    def _state_for(self, step: SequenceStep, sequence: OpenSequence) -> State:
        if sequence.stage is Stage.MOVED:
            raise sequence_moved(step)
        if step.starts and sequence.stage is Stage.STAYS:
            raise draining(step)
        if step.starts:
            return self.initial
        if sequence.state is None:  # it ended, or its first step failed, while this one waited
            raise sequence_unknown(step)
        return sequence.state

    def _rest(self, key: SequenceKey, sequence: OpenSequence) -> None:
        """Let a sequence without steps be idle, or close it if it has no state."""
        if sequence.steps:
            return
        if sequence.state is None:
            self._close(key)
        else:
            self._idle.add(key)

    def _expire(self, keys: Collection[SequenceKey]) -> None:
        for key in keys:
            self._close(key)
        self._events.sequences_expired(len(keys))

    def _add(self, key: SequenceKey, sequence: OpenSequence) -> OpenSequence:
        self._open[key] = sequence
        self._open_of_key[key.key_id] += 1
        return sequence

    def _close(self, key: SequenceKey) -> None:
        del self._open[key]
        self._open_of_key[key.key_id] -= 1
        if not self._open_of_key[key.key_id]:
            del self._open_of_key[key.key_id]

    # From here on: what the handover to and from other replicas needs.

    def stop_starting(self) -> None:
        """Start no sequence and take none over from now on."""
        self._starts_none = True

    @property
    def keys(self) -> list[SequenceKey]:
        return list(self._open)

    def find(self, key: SequenceKey) -> OpenSequence | None:
        return self._open.get(key)

    def hold(self, key: SequenceKey) -> None:
        """Keep a sequence from expiring until `let_go` or `keep`."""
        self._idle.discard(key)

    def let_go(self, key: SequenceKey, sequence: OpenSequence) -> None:
        """Forget a sequence that another replica has taken over."""
        sequence.stage = Stage.MOVED
        self._moved.add(key)
        self._events.sequences_moved(1)
        if self._open.get(key) is sequence:  # it may have expired meanwhile
            self._idle.discard(key)
            self._close(key)

    def keep(self, key: SequenceKey, sequence: OpenSequence) -> None:
        """Go on with a sequence that no other replica took over."""
        sequence.stage = Stage.STAYS
        if self._open.get(key) is sequence:
            self._idle.discard(key)
            self._rest(key, sequence)

    def can_take_over(self, key: SequenceKey) -> bool:
        return not self._starts_none and key not in self._open and self.open < MAX_TAKING_OVER

    def open_taken(self, snapshot: SequenceSnapshot) -> None:
        """Open a sequence of another replica; its idle time begins anew."""
        key = SequenceKey(*snapshot.key)
        self._rest(key, self._add(key, OpenSequence(snapshot.state)))
