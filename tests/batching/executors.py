"""Executors to batch for: what a model does, without a model."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any

from headrace.batching import Batcher, Limits, Result

__all__ = ["Echo", "Execute", "make_batcher", "submit"]

Execute = Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]


class Echo:
    """Answers each payload with itself after `seconds`; remembers every batch and its start."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.batches: list[list[Any]] = []
        self.started_s: list[float] = []

    async def __call__(self, payloads: Sequence[Any]) -> Sequence[Any]:
        self.batches.append(list(payloads))
        self.started_s.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        return list(payloads)


def make_batcher(execute: Execute, limits: Limits | None = None) -> Batcher[Any, Any]:
    """A batcher on the running loop's clock."""
    return Batcher(execute, limits or Limits(max_rows=4), clock=asyncio.get_running_loop().time)


def submit(
    batcher: Batcher[Any, Any],
    payload: object,
    *,
    rows: int = 1,
    nbytes: int = 1,
    deadline_s: float = 1e6,
    length: int = 1,
    group: Hashable = None,
    priority: int = 0,
    key_id: str = "",
) -> "asyncio.Future[Result[Any]]":
    return batcher.submit(
        payload,
        rows=rows,
        nbytes=nbytes,
        deadline_s=deadline_s,
        length=length,
        group=group,
        priority=priority,
        key_id=key_id,
    )
