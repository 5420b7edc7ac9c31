"""Sequences without a model, on virtual time: a step adds its number to its sequence's sum."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import numpy as np
from loadtests.support.virtual_time import run

from headrace.inference.request import SequenceStep
from headrace.replica.open_sequences import OpenSequences
from headrace.replica.sequence_state import State
from headrace.telemetry.events import ReplicaEvents
from headrace_models.spec import SequenceSpec

__all__ = ["FIRST", "LAST", "NEXT", "ONLY", "ZERO", "Sums", "on_virtual_time", "outcomes"]

ZERO = {"sum": np.zeros((1, 1))}
# Whether it starts, and whether it ends its sequence.
FIRST, NEXT, ONLY, LAST = (True, False), (False, False), (True, True), (False, True)
Test = Callable[[], Coroutine[Any, Any, None]]


def on_virtual_time(test: Test) -> Callable[[], None]:
    @wraps(test)
    def runs() -> None:
        run(test())

    return runs


class Sums(ReplicaEvents):
    """Sequences whose state is a sum, around a model that takes its time or fails."""

    def __init__(self, initial: State = ZERO, **limits: Any) -> None:
        clock = asyncio.get_running_loop().time
        self.expired = self.moved = 0
        self.ran: list[float] = []
        self.sequences = OpenSequences(SequenceSpec(**limits), initial, self, clock)

    def sequences_expired(self, number: int) -> None:
        self.expired += number

    def sequences_moved(self, number: int) -> None:
        self.moved += number

    async def step(
        self,
        number: float,
        kind: tuple[bool, bool] = NEXT,
        *,
        of: str = "1",
        key_id: str = "",
        takes_s: float = 0.0,
        deadline_s: float = 1e6,
        fails: bool = False,
    ) -> float:
        asked = SequenceStep(of, *kind, key_id)
        async with self.sequences.run_step(asked, deadline_s) as running:
            await asyncio.sleep(takes_s)
            if fails:
                raise ZeroDivisionError
            self.ran.append(number)
            running.state = {"sum": running.state["sum"] + number}
            return float(running.state["sum"][0, 0])


async def outcomes(*steps: Coroutine[Any, Any, float]) -> list[object]:
    """The results of steps that begin in one tick of the loop: a sum or the kind of an error."""
    ended = await asyncio.gather(*steps, return_exceptions=True)
    return [type(each) if isinstance(each, BaseException) else each for each in ended]
