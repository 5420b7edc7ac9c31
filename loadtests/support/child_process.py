"""Processes of a test's own, which end when it leaves their context."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from headrace.process.loop_thread import LoopThread

__all__ = ["START_TIMEOUT_S", "child_process", "serve_until_closed"]

START_TIMEOUT_S = 60.0

T = TypeVar("T")


@contextmanager
def child_process(work: Callable[..., None], *arguments: object) -> Iterator[Any]:
    """Run `work(*arguments, pipe)` in a process; yields the first object that it sends over the
    pipe.

    On leaving, our end of the pipe closes, which `work` takes as the sign to return.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process: BaseProcess = context.Process(target=work, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(START_TIMEOUT_S):
            raise TimeoutError(f"{work.__name__} was not ready within {START_TIMEOUT_S:g} s")
        yield ours.recv()
    finally:
        ours.close()
        process.join(START_TIMEOUT_S)


def serve_until_closed(
    thread: LoopThread[T], pipe: Connection, announce: Callable[[T], None]
) -> None:
    """Run a thread's program, announce it over the pipe, and stop when the pipe closes."""
    announce(thread.start(START_TIMEOUT_S))
    with suppress(EOFError):
        pipe.recv()
    thread.stop()
    thread.wait(START_TIMEOUT_S)
