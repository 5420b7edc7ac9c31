"""The way of a request's pieces to the batcher, and of their results back."""

import asyncio
from collections.abc import Hashable, Sequence

from headrace.batching import Batcher, Result
from headrace.errors import BadRequest
from headrace.inference.request import Request
from headrace.replica.assembly import Part, group_of, length_of, rows_of
from headrace.replica.batches import Piece
from headrace.replica.runner import PartResult
from headrace_models.spec import ModelSpec

__all__ = ["Submission"]


class Submission:
    """Submits the pieces of requests for one model."""

    def __init__(self, spec: ModelSpec, batcher: Batcher[Piece, PartResult]) -> None:
        self._spec = spec
        self._batcher = batcher
        self._is_batched = spec.is_batched
        self._has_lengths = not spec.is_batched or any(-1 in i.shape for i in spec.inputs)

    async def run(self, pieces: Sequence[Part], request: Request) -> Sequence[Result[PartResult]]:
        """The results of all pieces, or the first error; then the others leave the queue.

        Raises BadRequest for more rows than may ever wait, and what the batcher raises.
        """
        if len(pieces) == 1:
            return [await self.submit(pieces[0], request)]
        most = self._spec.batching.max_waiting_rows
        rows = sum(map(rows_of, pieces)) if self._is_batched else len(pieces)
        if rows > most:
            raise BadRequest(
                f"inputs: expected at most {most} rows, which is all that may wait, found {rows}"
            )
        submitted: list[asyncio.Future[Result[PartResult]]] = []
        try:
            submitted.extend(self.submit(piece, request) for piece in pieces)
            return await asyncio.gather(*submitted)
        except BaseException:
            for future in submitted:
                future.cancel()
            raise

    def submit(self, part: Part, request: Request) -> "asyncio.Future[Result[PartResult]]":
        """Submit one piece; cancel the future to withdraw it."""
        rows = rows_of(part) if self._is_batched else 1
        length = length_of(part, self._spec) if self._has_lengths else 1
        return self._batcher.submit(
            Piece(part=part, rows=rows, length=length, request=request),
            rows=rows,
            length=length,
            nbytes=sum(array.nbytes for array in part.values()),
            deadline_s=request.deadline_s,
            group=self._group_of(part, request),
            priority=request.priority,
            key_id=request.key_id,
        )

    def _group_of(self, part: Part, request: Request) -> Hashable:
        if request.runs_alone or not self._is_batched:
            return object()  # in a batch of its own
        return group_of(part, self._spec.inputs) if self._has_lengths else None
