"""Load, warm up, prove, serve and drain one model version. No Ray: the same host runs in a plain process."""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from time import monotonic, monotonic_ns
from types import TracebackType
from typing import NamedTuple

import numpy as np

from headrace import backends
from headrace.backends import Backend
from headrace.batching import Batcher, Limits, Settled
from headrace.channel import HandedSequence, Health, SequenceKey
from headrace.errors import (
    BadRequest,
    HeadraceError,
    InferenceFailed,
    SequenceMoved,
    ShuttingDown,
)
from headrace.replica.assembly import Part, group_of, join, rows_of, split_rows, take_rows
from headrace.replica.counters import Counters, Execution
from headrace.replica.preprocessing import preprocessed
from headrace.replica.proof import warm_up
from headrace.replica.sequences import Sequences, State, next_state, zeros
from headrace.statistics import Statistics
from headrace.telemetry.events import ReplicaEvents
from headrace.tensor import Answer, Array, Request, SequenceStep, Tensor, Times, from_array, to_array
from headrace_models import preprocess
from headrace_models.repository import ModelVersion
from headrace_models.spec import TextSpec

__all__ = ["Host", "Load"]

log = logging.getLogger(__name__)

Load = Callable[[ModelVersion, str], Backend]

# A replica that served nothing for PROVE_AFTER_S runs its golden row; ready means proven within PROOF_LIFE_S.
PROVE_AFTER_S = 4.0
PROOF_LIFE_S = 20.0
_PREPROCESS_THREADS = 2
# A batch this short costs less than waking another thread twice, so it runs on the loop itself.
INLINE_BELOW_S = 0.002


# The outputs of one part, and the execution that gave them.
_Rows = tuple[Part, Execution]


class _Ran(NamedTuple):
    """What a request became: its parts, the seconds that preprocessing took, and how each piece was settled."""

    parts: list[Part]
    preprocess_s: float
    settled: list[Settled[_Rows]]


class Host:
    """One model version in this process. Enter it to load and prove the model; leave it to drain and unload."""

    def __init__(self, version: ModelVersion, backend: str, events: ReplicaEvents, load: Load = backends.load) -> None:
        self._load = load
        self.version = version
        self.spec = version.spec
        self._backend_name = backend
        self._events = events
        self._stack = AsyncExitStack()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"model-{self.spec.name}")
        self._pool = ThreadPoolExecutor(_PREPROCESS_THREADS, thread_name_prefix=f"preprocess-{self.spec.name}")
        self._counters = Counters()
        self._accepted = 0
        self._is_draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._proved_s = float("-inf")
        self._row_s = float("inf")

    async def __aenter__(self) -> "Host":
        self._loop = asyncio.get_running_loop()
        self._stack.callback(self._executor.shutdown, wait=False)
        self._stack.callback(self._pool.shutdown, wait=False)
        self._preprocess = preprocess.load(self.spec.preprocess, self.version.folder) if self.spec.preprocess else None
        self._backend: Backend = await self._loop.run_in_executor(
            self._executor, self._load, self.version, self._backend_name
        )
        self._golden = await self._loop.run_in_executor(self._executor, warm_up, self._backend, self.version)
        batching = self.spec.batching
        self._batcher: Batcher[Part, _Rows] = await self._stack.enter_async_context(
            Batcher(self._run_batch, Limits(batching.max_rows, batching.max_waiting_rows))
        )
        self._sequences = await self._stack.enter_async_context(
            Sequences(self.spec.sequence, zeros(self.spec), self._events)
        )
        self._events.watch_line(lambda: self._batcher.waiting_rows, lambda: self._batcher.running_rows)
        self._proved_s = monotonic()
        prover = asyncio.create_task(self._keep_proving())
        self._stack.callback(prover.cancel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def drain(self) -> None:
        """Refuse new requests and wait until every accepted one is settled."""
        self._is_draining = True
        await self._idle.wait()
        await self._batcher.drain()

    @property
    def sequences(self) -> Sequences:
        return self._sequences

    def adopt(self, kept: Collection[str], handed: Sequence[HandedSequence]) -> Sequence[SequenceKey]:
        """Take sequences over from a replica whose model keeps the states `kept`; those that are here now."""
        return self._sequences.adopt(kept, handed, zeros(self.spec))

    @property
    def device(self) -> str:
        return self._backend.device

    def health(self) -> Health:
        """Ready means that an inference succeeded within the last PROOF_LIFE_S seconds."""
        is_ready = monotonic() - self._proved_s < PROOF_LIFE_S
        return Health(is_ready and not self._is_draining, self._batcher.waiting_rows)

    def statistics(self) -> Statistics:
        """What was counted since the model was loaded."""
        return self._counters.statistics()

    async def infer(self, request: Request) -> Answer:
        """Preprocess, batch, run. Raises BadRequest for raw inputs that cannot become tensors, else what the line says.

        A request larger than a batch runs as several parts and is put together again.
        """
        if self._is_draining:
            raise ShuttingDown("the model is shutting down", retry_after_s=1)
        self._accepted += 1
        self._idle.clear()
        started_ns = monotonic_ns()
        try:
            return await self._answer(request, started_ns)
        except SequenceMoved:  # another replica answers it
            raise
        except BaseException:
            self._counters.request_failed(monotonic_ns() - started_ns)
            raise
        finally:
            self._accepted -= 1
            if not self._accepted:
                self._idle.set()

    async def _answer(self, request: Request, started_ns: int) -> Answer:
        step = request.sequence
        parts, preprocess_s, settled = await (self._step(request, step) if step else self._run(request, {}))
        times = _times(settled, preprocess_s)
        self._events.request_served(times)
        settled_ns = monotonic_ns()
        answer = Answer(self._outputs(request, settled), times, self._tokens(parts) if preprocess_s else 0)
        ended_ns = monotonic_ns()
        self._counters.request_served(
            request.inputs[0].rows, ended_ns - started_ns, times.queue_s, preprocess_s, ended_ns - settled_ns
        )
        # Pieces of one request may have shared an execution, whose time the request spent once.
        for ran in (settled[0].result[1],) if len(settled) == 1 else {s.result[1] for s in settled}:
            self._counters.request_ran(ran)
        return answer

    async def _step(self, request: Request, step: SequenceStep) -> _Ran:
        """Run a step of a sequence with the state that the one before it left."""
        async with self._sequences.turn(step, request.deadline_s) as turn:
            ran = await self._run(request, turn.state)
            turn.state = next_state(self.spec, ran.settled[0].result[0])
            return ran

    async def _run(self, request: Request, state: State) -> _Ran:
        parts, preprocess_s = await self._parts_of(request, state)
        pieces = [piece for part in parts for piece in split_rows(part, self.spec.batching.max_rows)]
        settled = [await self._ask(pieces[0], request)] if len(pieces) == 1 else await self._ask_all(pieces, request)
        return _Ran(parts, preprocess_s, settled)

    def _ask(self, piece: Part, request: Request) -> "asyncio.Future[Settled[_Rows]]":
        return self._batcher.ask(
            piece,
            rows=rows_of(piece),
            nbytes=sum(a.nbytes for a in piece.values()),
            deadline_s=request.deadline_s,
            group=group_of(piece, self.spec.inputs),
            priority=request.priority,
        )

    async def _ask_all(self, pieces: Sequence[Part], request: Request) -> list[Settled[_Rows]]:
        """All pieces of a request, or the first error; then the others leave the line."""
        most, rows = self.spec.batching.max_waiting_rows, sum(map(rows_of, pieces))
        if rows > most:
            raise BadRequest(f"inputs: expected at most {most} rows, which is all that may wait, found {rows}")
        asked: list[asyncio.Future[Settled[_Rows]]] = []
        try:
            asked.extend(self._ask(piece, request) for piece in pieces)
            return list(await asyncio.gather(*asked))
        except BaseException:
            for future in asked:
                future.cancel()
            raise

    def _tokens(self, parts: Sequence[Part]) -> int:
        raw = self.spec.preprocess
        return sum(int(part[raw.mask].sum()) for part in parts) if isinstance(raw, TextSpec) else 0

    def _outputs(self, request: Request, settled: Sequence[Settled[_Rows]]) -> list[Tensor]:
        names = request.outputs or self.spec.output_names
        return [from_array(name, _joined([s.result[0][name] for s in settled])) for name in names]

    async def _parts_of(self, request: Request, state: State) -> tuple[list[Part], float]:
        """The request's rows as tensors, and the seconds that preprocessing took (0 when there was none)."""
        raw = self.spec.preprocess
        if self._preprocess is None or raw is None or request.inputs[0].name != raw.input:
            return [self._with_state({**{t.name: to_array(t) for t in request.inputs}, **state})], 0.0
        started_s = monotonic()
        parts = await self._loop.run_in_executor(self._pool, preprocessed, self._preprocess, request.inputs[0])
        return [self._with_state({**part, **state}) for part in parts], monotonic() - started_s

    def _with_state(self, part: dict[str, Array]) -> Part:
        """A recurrent state that nobody gives starts from zeros."""
        return {**zeros(self.spec, rows_of(part)), **part} if self.spec.state else part

    async def _run_batch(self, parts: Sequence[Part]) -> Sequence[_Rows | Exception]:
        started_s = monotonic()
        rows = sum(map(rows_of, parts))
        if rows * self._row_s < INLINE_BELOW_S:
            results = self._compute(parts)
        else:
            results = await self._loop.run_in_executor(self._executor, self._compute, parts)
        ended_s = monotonic()
        if not all(isinstance(result, Exception) for result in results):
            self._proved_s = ended_s
        self._row_s = (ended_s - started_s) / rows
        self._events.batch_ran(rows)
        return results

    def _compute(self, parts: Sequence[Part]) -> Sequence[_Rows | Exception]:
        """One batch, in the executor's thread; if it fails, each part alone, so that a stranger's mistake harms nobody.

        A replica whose every batch fails is not proven any more, and is replaced.
        """
        try:
            return self._compute_together(parts)
        except Exception as error:
            if len(parts) == 1:
                if isinstance(error, BadRequest):
                    return [error]
                log.exception("a part of %d rows failed", rows_of(parts[0]))
                return [
                    error if isinstance(error, HeadraceError) else InferenceFailed("the model failed on this request")
                ]
        return [result for part in parts for result in self._compute([part])]

    def _compute_together(self, parts: Sequence[Part]) -> Sequence[_Rows]:
        sizes = [rows_of(part) for part in parts]
        started_ns = monotonic_ns()
        batch = join(parts, self.spec.inputs)
        joined_ns = monotonic_ns()
        outputs = self._backend.run(batch)
        ran_ns = monotonic_ns()
        for name, array in outputs.items():
            if len(array) != sum(sizes):
                raise InferenceFailed(f'the model gave {len(array)} rows of "{name}" for a batch of {sum(sizes)}')
        taken = take_rows(outputs, sizes)
        ran = Execution(sum(sizes), joined_ns - started_ns, ran_ns - joined_ns, monotonic_ns() - ran_ns)
        return [(rows, ran) for rows in taken]

    async def _keep_proving(self) -> None:
        """While nothing is asked, run a golden row now and then, so that "ready" is always a recent fact."""
        part = split_rows(self._golden, self.spec.batching.fixed_rows or 1)[0]
        while True:
            await asyncio.sleep(PROVE_AFTER_S)
            if monotonic() - self._proved_s < PROVE_AFTER_S:
                continue
            deadline_s = monotonic() + PROOF_LIFE_S
            try:
                await self._batcher.ask(
                    part, rows=rows_of(part), nbytes=0, deadline_s=deadline_s, group=group_of(part, self.spec.inputs)
                )
            except Exception as error:
                self._loop.call_exception_handler({"message": "the golden row failed", "exception": error})


def _joined(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _times(settled: Sequence[Settled[_Rows]], preprocess_s: float) -> Times:
    first = settled[0]
    if len(settled) == 1:
        return Times(first.queue_s, preprocess_s, first.compute_s, first.batch_rows)
    compute_s = max(s.compute_s for s in settled)
    return Times(min(s.queue_s for s in settled), preprocess_s, compute_s, max(s.batch_rows for s in settled))
