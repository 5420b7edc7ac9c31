"""The open sequences of a replica: the state that each has come to, and whose turn it is."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from time import monotonic
from types import TracebackType

import numpy as np

from headrace.errors import DeadlineExceeded, Overloaded, QuotaExceeded, SequenceUnknown
from headrace.telemetry.events import ReplicaEvents
from headrace.tensor import Array, SequenceStep
from headrace_models.spec import DTYPES, ModelSpec, SequenceSpec

__all__ = ["MAX_STEPS", "Sequences", "State", "Turn", "next_state", "zeros"]

# Steps of one sequence that may be here at a time, the one that runs among them.
MAX_STEPS = 16
# A loop's timer may fire this much before its time.
_TIMER_EARLY_S = 0.001
_SHOWN_CHARS = 64

# The values of the state inputs: name -> [1, *shape].
State = Mapping[str, Array]
_Key = tuple[str, str]


def zeros(spec: ModelSpec, rows: int = 1) -> State:
    """The state that everything starts from."""
    inputs = {i.name: i for i in spec.inputs}
    states = [inputs[pair.input] for pair in spec.state]
    return {state.name: np.zeros((rows, *state.shape), DTYPES[state.datatype]) for state in states}


def next_state(spec: ModelSpec, outputs: Mapping[str, Array]) -> State:
    """The state that a step's outputs leave: copies, since outputs are views that would keep their whole batch."""
    return {pair.input: outputs[pair.output].copy() for pair in spec.state}


@dataclass(slots=True)
class Turn:
    """A step's turn. `state` is what the model takes; what it holds when the turn ends well is the sequence's next."""

    state: State


@dataclass(slots=True, eq=False)
class _Sequence:
    """`state` is None until a first step succeeded; `steps` are here, the one that runs among them."""

    state: State | None = None
    steps: int = 0
    order: asyncio.Lock = field(default_factory=asyncio.Lock)  # its waiters are served in the order of coming


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
        self._open: dict[_Key, _Sequence] = {}
        self._idle_until_s: dict[_Key, float] = {}  # those without a step here, the longest idle first
        self._of_owner: Counter[str] = Counter()
        self._sweep: asyncio.TimerHandle | None = None
        self._sweeps = False

    async def __aenter__(self) -> "Sequences":
        self._events.watch_sequences(lambda: len(self._open))
        self._sweeps = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sweeps = False
        if self._sweep:
            self._sweep.cancel()

    @property
    def open(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def turn(self, step: SequenceStep, deadline_s: float) -> AsyncIterator[Turn]:
        """Wait until the steps that came before are settled. A turn that ends in an error leaves the state as it was.

        Raises SequenceUnknown, QuotaExceeded, Overloaded, or DeadlineExceeded.
        """
        sequence = self._join(step)
        try:
            await self._wait(sequence, deadline_s)
            try:
                turn = Turn(self._state_for(step, sequence))
                yield turn
                if self._clock() >= deadline_s:  # the caller was told that it failed, and may repeat it
                    raise DeadlineExceeded("the model did not answer before the deadline")
                sequence.state = None if step.ends else turn.state
            finally:
                sequence.order.release()
        finally:
            self._leave(step, sequence)

    def _join(self, step: SequenceStep) -> _Sequence:
        key = (step.owner, step.id)
        sequence = self._open.get(key)
        if sequence is None:
            sequence = self._begin(step)
        if sequence.steps >= MAX_STEPS:
            raise Overloaded(f"sequence {_shown(step)}: {MAX_STEPS} steps wait already", retry_after_s=1)
        self._idle_until_s.pop(key, None)
        sequence.steps += 1
        return sequence

    def _begin(self, step: SequenceStep) -> _Sequence:
        if not step.starts:
            raise _unknown(step)
        most = self._limits.max_open
        if self._of_owner[step.owner] >= most:
            raise QuotaExceeded(f"expected at most {most} open sequences, found one more", retry_after_s=1)
        self._of_owner[step.owner] += 1
        sequence = self._open[step.owner, step.id] = _Sequence()
        return sequence

    async def _wait(self, sequence: _Sequence, deadline_s: float) -> None:
        try:
            async with asyncio.timeout(deadline_s - self._clock()):
                await sequence.order.acquire()
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while the step waited for the one before it") from None

    def _state_for(self, step: SequenceStep, sequence: _Sequence) -> State:
        if step.starts:
            return self._initial
        if sequence.state is None:  # it ended, or its first step failed, while this one waited
            raise _unknown(step)
        return sequence.state

    def _leave(self, step: SequenceStep, sequence: _Sequence) -> None:
        key = (step.owner, step.id)
        sequence.steps -= 1
        if sequence.steps:
            return
        if sequence.state is None:
            self._close(key)
            return
        self._idle_until_s[key] = self._clock() + self._limits.max_idle_s
        if self._sweep is None and self._sweeps:
            self._sweep_later()

    def _close(self, key: _Key) -> None:
        del self._open[key]
        owner, _ = key
        self._of_owner[owner] -= 1
        if not self._of_owner[owner]:
            del self._of_owner[owner]

    def _sweep_later(self) -> None:
        """One timer serves all: it is set for the sequence that has been idle longest."""
        until_s = next(iter(self._idle_until_s.values()))
        self._sweep = asyncio.get_running_loop().call_later(max(0.0, until_s - self._clock()), self._expire)

    def _expire(self) -> None:
        now_s = self._clock() + _TIMER_EARLY_S
        expired = list(takewhile(lambda key: self._idle_until_s[key] <= now_s, self._idle_until_s))
        for key in expired:
            del self._idle_until_s[key]
            self._close(key)
        if expired:
            self._events.sequences_expired(len(expired))
        self._sweep = None
        if self._idle_until_s:
            self._sweep_later()


def _unknown(step: SequenceStep) -> SequenceUnknown:
    return SequenceUnknown(f"sequence {_shown(step)}: expected sequence_start, as no such sequence is open")


def _shown(step: SequenceStep) -> str:
    return step.id if len(step.id) <= _SHOWN_CHARS else f"{step.id[:_SHOWN_CHARS]}…"
