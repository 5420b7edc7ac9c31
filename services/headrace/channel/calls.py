"""Calls of a replica's other services, which wait for one frame each."""

import asyncio
from collections.abc import Sequence
from typing import Generic, TypeVar

from headrace.channel.frame_stream import FrameStream
from headrace.channel.frames import GetStatistics, TakeOver
from headrace.errors import DeadlineExceeded, ReplicaLost
from headrace.inference.tensor import Tensor

__all__ = ["Calls"]

T = TypeVar("T")


class Calls(Generic[T]):
    """The calls of one kind that wait for their answers."""

    def __init__(self, frame_stream: FrameStream) -> None:
        self._frame_stream = frame_stream
        self._waiting: dict[int, asyncio.Future[T]] = {}

    async def call(
        self, frame: GetStatistics | TakeOver, tensors: Sequence[Tensor], timeout_s: float
    ) -> T:
        """Send a frame and wait for its answer.

        Raises ReplicaLost, Overloaded, TooLarge, or DeadlineExceeded after `timeout_s`.
        """
        if not self._frame_stream.is_open:
            raise ReplicaLost("the replica went away", retry_after_s=1)
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting[frame.id] = answer
        try:
            self._frame_stream.send(frame, tensors)
            return await asyncio.wait_for(answer, timeout_s)
        except TimeoutError:
            raise DeadlineExceeded("the replica did not answer in time") from None
        finally:
            del self._waiting[frame.id]

    def answer(self, frame_id: int, answer: T) -> None:
        future = self._waiting.get(frame_id)
        if future is not None and not future.done():
            future.set_result(answer)

    def lose(self, error: ReplicaLost) -> None:
        """Fail all calls."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
