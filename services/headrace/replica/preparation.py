"""A request's inputs as the tensors of its rows, in pieces that fit a batch."""

from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple

from headrace.inference.request import Request
from headrace.inference.tensor import Array, to_array
from headrace.replica.assembly import Part, split_rows
from headrace.replica.pool import PreprocessPool
from headrace.replica.preprocessing import preprocessing
from headrace.replica.sequence_state import State, zeros
from headrace_models.preprocess import Preprocessor
from headrace_models.spec import ModelSpec

__all__ = ["Preparation", "PreparedRequest"]


class PreparedRequest(NamedTuple):
    """A request's rows, in pieces no larger than a batch, and what preprocessing has found.

    `truncated` are the indices of texts that were cut.
    """

    pieces: Sequence[Part]
    preprocess_s: float = 0.0
    tokens: int = 0
    truncated: tuple[int, ...] = ()


class Preparation:
    """Prepares the requests of one model; raw inputs are preprocessed in the threads of `pool`."""

    def __init__(
        self, spec: ModelSpec, preprocess: Preprocessor | None, pool: PreprocessPool
    ) -> None:
        self._spec = spec
        self._preprocess = preprocess
        self._pool = pool
        self._raw_input = spec.raw.input if spec.raw and preprocess else None
        self._max_rows = spec.batching.max_rows
        self._is_batched = spec.is_batched

    async def prepare(self, request: Request, state: State) -> PreparedRequest:
        """Prepare a request that goes on from `state`, which is empty without a sequence.

        Raises BadRequest for inputs that cannot become tensors, Overloaded, DeadlineExceeded and
        ShuttingDown.
        """
        if request.inputs[0].name == self._raw_input:
            return await self._prepare_raw(request, state)
        part = {**{tensor.name: to_array(tensor) for tensor in request.inputs}, **state}
        return PreparedRequest(self._split(self._with_state(part)))

    async def _prepare_raw(self, request: Request, state: State) -> PreparedRequest:
        assert self._preprocess is not None, "a raw input is preprocessed"
        started_s = monotonic()
        work = preprocessing(self._preprocess, request.inputs[0])
        prepared = await self._pool.do(work, request.deadline_s)
        parts = [self._with_state({**tensors, **state}) for tensors, _ in prepared]
        return PreparedRequest(
            pieces=[piece for part in parts for piece in self._split(part)],
            preprocess_s=monotonic() - started_s,
            tokens=self._count_tokens(parts),
            truncated=tuple(index for index, (_, is_cut) in enumerate(prepared) if is_cut),
        )

    def _split(self, part: Part) -> Sequence[Part]:
        return split_rows(part, self._max_rows) if self._is_batched else [part]

    def _with_state(self, part: dict[str, Array]) -> Part:
        """Add the recurrent states that the request does not give: they start from zeros."""
        if not self._spec.state:
            return part
        rows = next(
            (len(part[i.name]) for i in self._spec.inputs if i.has_rows and i.name in part), 1
        )
        return {**zeros(self._spec, rows), **part}

    def _count_tokens(self, parts: Sequence[Part]) -> int:
        tokens = self._spec.raw.tokens if self._spec.raw else None
        return sum(int(part[tokens.mask].sum()) for part in parts) if tokens else 0
