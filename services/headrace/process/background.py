"""Background work of a program, which ends with the program."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack

__all__ = ["background"]


def background(stack: AsyncExitStack, work: Coroutine[None, None, None]) -> None:
    """Run `work` in the background; it is cancelled and awaited when the stack ends."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)
