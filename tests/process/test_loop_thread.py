"""Calls to a program in a thread, at any time around its end."""

import asyncio
from collections.abc import Callable

import pytest

from headrace.process.loop_thread import LoopThread

IN_TIME_S = 10.0


async def main(ready: Callable[[None], None], stop: asyncio.Event) -> None:
    ready(None)
    await stop.wait()


async def nothing() -> None: ...


@pytest.mark.parametrize(
    "ask", [lambda thread: thread.call(lambda: None), lambda thread: thread.run(nothing, IN_TIME_S)]
)
def test_calls_while_it_ends_do_nothing_and_do_not_fail(
    ask: Callable[[LoopThread[None]], None],
) -> None:
    """Many ends, because the time between the loop's close and the thread's end is short."""
    for _ in range(100):
        thread = LoopThread("short", main)
        thread.start(IN_TIME_S)
        thread.stop()
        while not thread.wait(0.0):
            ask(thread)
        thread.stop()
