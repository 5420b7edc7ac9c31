"""A replica in a process of its own, which some inputs end.

Run as: python -m tests.gateway.crashing_replica SOCKET ROWS. It runs a batch once ROWS wait, and a
suspect alone. A byte on its standard input lets suspects run; its end ends the process. It prints
a line when it listens.
"""

import asyncio
import os
import sys
from collections.abc import Collection, Sequence

import uvloop
from tests.channel.replicas import TIMES, TOKEN

from headrace.channel import Health, serve
from headrace.channel.frames import Welcome
from headrace.inference.request import Answer, Request
from headrace.inference.sequences import SequenceKey, SequenceSnapshot
from headrace.inference.statistics import Statistics
from headrace.inference.tensor import from_array, to_array

__all__ = ["POISON", "STATUS"]

POISON = 13.0
STATUS = 66


class CrashingService:
    """Doubles numbers in batches of `rows`; POISON ends the process."""

    def __init__(self, rows: int, may_try: asyncio.Event) -> None:
        self._rows = rows
        self._may_try = may_try
        self._waiting: list[tuple[Request, asyncio.Future[Answer]]] = []

    async def infer(self, request: Request) -> Answer:
        if request.runs_alone:
            await self._may_try.wait()
            assert request.started
            await request.started()
            return self._run(request)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        if len(self._waiting) == self._rows:
            for asked, to_settle in self._waiting:
                to_settle.set_result(self._run(asked))
            self._waiting = []
        return await answer

    def _run(self, request: Request) -> Answer:
        numbers = to_array(request.inputs[0])
        if POISON in numbers:
            os._exit(STATUS)
        return Answer([from_array("y", 2 * numbers)], TIMES)

    def take_over(
        self, _: Collection[str], __: Sequence[SequenceSnapshot]
    ) -> Sequence[SequenceKey]:
        return []

    def health(self) -> Health:
        return Health(is_ready=True, waiting_rows=0)

    def statistics(self) -> Statistics:
        return Statistics()


async def main(unix: str, rows: int) -> None:
    may_try, ended = asyncio.Event(), asyncio.Event()

    def read_input() -> None:
        (may_try if os.read(sys.stdin.fileno(), 1) else ended).set()

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), read_input)
    async with serve(
        CrashingService(rows, may_try), Welcome("tiny", "1"), TOKEN, unix, "127.0.0.1"
    ):
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
