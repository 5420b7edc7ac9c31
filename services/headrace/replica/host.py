"""Load, warm up, prove, serve and drain one model version. No Ray: the same host runs in a plain process."""

import asyncio
from collections.abc import Callable, Collection, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from time import monotonic, monotonic_ns
from types import TracebackType
from typing import NamedTuple

import numpy as np

from headrace import backends
from headrace.backends import Backend
from headrace.batching import Batcher, CostModel, Limits, Result
from headrace.channel import Health, SequenceKey, SequenceSnapshot
from headrace.errors import BadRequest, SequenceMoved, ShuttingDown
from headrace.inference.request import Answer, Request, SequenceStep, Times
from headrace.inference.statistics import Statistics
from headrace.inference.tensor import Array, Tensor, from_array, to_array
from headrace.replica.assembly import Part, group_of, length_of, rows_of, split_rows
from headrace.replica.audio import check_no_audio, is_chunk, run_chunk
from headrace.replica.batches import Batches, Piece
from headrace.replica.counters import Counters
from headrace.replica.handover import take_over
from headrace.replica.open_sequences import OpenSequences
from headrace.replica.pool import PreprocessPool, threads_for
from headrace.replica.preprocessing import preprocessing
from headrace.replica.proof import warm_up
from headrace.replica.running import Ran
from headrace.replica.sequence_state import State, next_state, zeros
from headrace.telemetry.events import ReplicaEvents
from headrace_models import preprocess
from headrace_models.repository import ModelVersion
from headrace_models.spec import OutputSpec

__all__ = ["Host", "Load"]

Load = Callable[[ModelVersion, str], Backend]


class _Served(NamedTuple):
    """What a request became: its rows, and how each piece was settled."""

    rows: "_Rows"
    settled: list[Result[Ran]]


class _Rows(NamedTuple):
    """A request's rows as tensors; if it was preprocessed, the seconds that took, and which texts were cut."""

    parts: list[Part]
    preprocess_s: float = 0.0
    truncated: tuple[int, ...] = ()


class Host:
    """One model version in this process. Enter it to load and prove the model; leave it to drain and unload."""

    def __init__(
        self,
        version: ModelVersion,
        backend: str,
        events: ReplicaEvents,
        load: Load = backends.load,
    ) -> None:
        self._load = load
        self.version = version
        self.spec = version.spec
        self._backend_name = backend
        self._events = events
        self._stack = AsyncExitStack()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"model-{self.spec.name}")
        threads = threads_for(self.spec.raw, self.spec.replica.cpus)
        self._pool = PreprocessPool(threads, self.spec.batching.max_waiting_rows, events)
        self._counters = Counters()
        self._accepted = 0
        self._is_draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._read_spec()

    def _read_spec(self) -> None:
        """What each request would else ask the spec for again."""
        spec = self.spec
        self._is_batched = spec.is_batched
        self._has_lengths = not spec.is_batched or any(-1 in i.shape for i in spec.inputs)
        self._tensors = {output.name: output for output in spec.outputs}

    async def __aenter__(self) -> "Host":
        self._loop = asyncio.get_running_loop()
        self._stack.callback(self._executor.shutdown, wait=False)
        self._stack.enter_context(self._pool)
        self._preprocess = (
            preprocess.load(self.spec.raw, self.version.folder) if self.spec.raw else None
        )
        self._backend: Backend = await self._loop.run_in_executor(
            self._executor, self._load, self.version, self._backend_name
        )
        self._widen_executor(self._backend.lanes)
        proved = await self._loop.run_in_executor(
            self._executor, warm_up, self._backend, self.version
        )
        self.version, self._golden, seen = proved
        self.spec = self.version.spec
        self._read_spec()
        cost = CostModel()
        self._batches = Batches(self._backend, self.spec, self._executor, cost, self._events)
        batching = self.spec.batching
        max_rows = batching.max_rows if self._is_batched else 1
        self._batcher: Batcher[Piece, Ran] = await self._stack.enter_async_context(
            Batcher(
                self._run_batch,
                Limits(max_rows, batching.max_waiting_rows, max_running=self._backend.lanes),
                cost=cost,
            )
        )
        for cells, seconds in seen:
            cost.batch_ran(cells, cells, seconds, monotonic())
            self._batches.took.saw(cells, length_of(self._golden, self.spec), seconds)
        self._sequences = await self._stack.enter_async_context(
            OpenSequences(self.spec.sequence, zeros(self.spec), self._events)
        )
        self._stack.enter_context(self._batches.watch)
        self._events.watch_batcher(self._batcher)
        prover = asyncio.create_task(self._batches.keep_proving(self._prove))
        self._stack.callback(prover.cancel)
        return self

    def _widen_executor(self, lanes: int) -> None:
        """A thread for each batch that the backend takes at a time; the model was loaded in the one there was."""
        if lanes > 1:
            self._executor.shutdown(wait=False)
            self._executor = ThreadPoolExecutor(lanes, thread_name_prefix=f"model-{self.spec.name}")
            self._stack.callback(self._executor.shutdown, wait=False)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def drain(self) -> None:
        """Refuse new requests and wait until every accepted one is settled."""
        self._is_draining = True
        await self._idle.wait()
        await self._batcher.drain()

    @property
    def sequences(self) -> OpenSequences:
        return self._sequences

    def take_over(
        self, state_names: Collection[str], snapshots: Sequence[SequenceSnapshot]
    ) -> Sequence[SequenceKey]:
        """Take sequences over from a replica whose model keeps `state_names`; those that are here now."""
        return take_over(self._sequences, state_names, snapshots)

    @property
    def device(self) -> str:
        return self._backend.device

    def health(self) -> Health:
        """Ready means that an inference succeeded lately."""
        return Health(self._batches.is_ready and not self._is_draining, self._batcher.waiting_rows)

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
        if step and is_chunk(self.spec, request):
            return await self._listen(request, step, started_ns)
        (parts, preprocess_s, truncated), settled = await (
            self._step(request, step) if step else self._run(request, {})
        )
        times = _times(settled, preprocess_s)
        self._events.request_served(times)
        settled_ns = monotonic_ns()
        tokens = self._tokens(parts) if preprocess_s else 0
        answer = Answer(self._outputs(request, settled), times, tokens, truncated)
        ended_ns = monotonic_ns()
        rows = request.inputs[0].rows if self._is_batched else len(settled)
        self._counters.request_served(
            rows, ended_ns - started_ns, times.queue_s, preprocess_s, ended_ns - settled_ns
        )
        # Pieces of one request may have shared an execution, whose time the request spent once.
        first = settled[0].value.execution
        for execution in (first,) if len(settled) == 1 else {s.value.execution for s in settled}:
            self._counters.request_ran(execution)
        return answer

    async def _step(self, request: Request, step: SequenceStep) -> _Served:
        """Run a step of a sequence with the state that the one before it left."""
        async with self._sequences.run_step(step, request.deadline_s) as running:
            ran = await self._run(request, check_no_audio(running.state))
            running.state = next_state(self.spec, ran.settled[0].value.outputs)
            return ran

    async def _listen(self, request: Request, step: SequenceStep, started_ns: int) -> Answer:
        """Run the frames that a chunk of a stream completes, each behind the one before it."""
        async with self._sequences.run_step(step, request.deadline_s) as running:
            came = await run_chunk(
                self.spec,
                step,
                request.inputs,
                running.state,
                lambda frame: self._submit(frame, request),
            )
            running.state = came.state
        self._events.request_served(came.times)
        rows, spent_ns = len(came.executions), monotonic_ns() - started_ns
        self._counters.request_served(rows, spent_ns, came.times.queue_s, 0.0, 0)
        for execution in came.executions:
            self._counters.request_ran(execution)
        return Answer(came.outputs, came.times)

    async def _run(self, request: Request, state: State) -> _Served:
        rows = await self._rows_of(request, state)
        most = self.spec.batching.max_rows
        pieces = (
            [p for part in rows.parts for p in split_rows(part, most)]
            if self._is_batched
            else rows.parts
        )
        settled = (
            [await self._submit(pieces[0], request)]
            if len(pieces) == 1
            else await self._ask_all(pieces, request)
        )
        return _Served(rows, settled)

    def _submit(self, part: Part, request: Request) -> "asyncio.Future[Result[Ran]]":
        rows, length = rows_of(part) if self._is_batched else 1, self._length_of(part)
        return self._batcher.submit(
            Piece(part, rows, length, request),
            rows=rows,
            length=length,
            nbytes=sum(a.nbytes for a in part.values()),
            deadline_s=request.deadline_s,
            group=self._group_of(part) if self._is_batched and not request.is_suspect else object(),
            priority=request.priority,
            key_id=request.key_id,
        )

    def _length_of(self, part: Part) -> int:
        return length_of(part, self.spec) if self._has_lengths else 1

    def _group_of(self, part: Part) -> Hashable:
        return group_of(part, self.spec.inputs) if self._has_lengths else None

    async def _ask_all(self, pieces: Sequence[Part], request: Request) -> list[Result[Ran]]:
        """All pieces of a request, or the first error; then the others leave the line."""
        most = self.spec.batching.max_waiting_rows
        rows = sum(map(rows_of, pieces)) if self._is_batched else len(pieces)
        if rows > most:
            raise BadRequest(
                f"inputs: expected at most {most} rows, which is all that may wait, found {rows}"
            )
        asked: list[asyncio.Future[Result[Ran]]] = []
        try:
            asked.extend(self._submit(piece, request) for piece in pieces)
            return list(await asyncio.gather(*asked))
        except BaseException:
            for future in asked:
                future.cancel()
            raise

    def _tokens(self, parts: Sequence[Part]) -> int:
        tokens = self.spec.raw.tokens if self.spec.raw else None
        return sum(int(part[tokens.mask].sum()) for part in parts) if tokens else 0

    def _outputs(self, request: Request, settled: Sequence[Result[Ran]]) -> list[Tensor]:
        names = request.outputs or self._tensors
        return [
            from_array(n, _joined([s.value.outputs[n] for s in settled], self._tensors[n]))
            for n in names
        ]

    async def _rows_of(self, request: Request, state: State) -> _Rows:
        raw = self.spec.raw
        if self._preprocess is None or raw is None or request.inputs[0].name != raw.input:
            return _Rows(
                [self._with_state({**{t.name: to_array(t) for t in request.inputs}, **state})]
            )
        started_s = monotonic()
        prepared = await self._pool.do(
            preprocessing(self._preprocess, request.inputs[0]), request.deadline_s
        )
        parts = [self._with_state({**tensors, **state}) for tensors, _ in prepared]
        truncated = tuple(place for place, (_, is_cut) in enumerate(prepared) if is_cut)
        return _Rows(parts, monotonic() - started_s, truncated)

    def _with_state(self, part: dict[str, Array]) -> Part:
        """A recurrent state that nobody gives starts from zeros."""
        if not self.spec.state:
            return part
        rows = next(
            (len(part[i.name]) for i in self.spec.inputs if i.has_rows and i.name in part), 1
        )
        return {**zeros(self.spec, rows), **part}

    async def _run_batch(self, pieces: Sequence[Piece]) -> Sequence[Ran | Exception]:
        results = await self._batches.run(pieces)
        self._batcher.limit_cells(self._batches.safe_cells)
        return results

    async def _prove(self, request: Request) -> None:
        await self._submit(
            split_rows(self._golden, 1)[0] if self._is_batched else self._golden, request
        )


def _joined(arrays: list[Array], output: OutputSpec) -> Array:
    """An output of several runs: its rows one after the other; where runs have none, each is one. Raises BadRequest."""
    if len(arrays) == 1:
        return arrays[0]
    try:
        return (
            np.concatenate(arrays)
            if output.has_rows or output.shape[:1] == (1,)
            else np.stack(arrays)
        )
    except ValueError:
        shapes = sorted({array.shape for array in arrays})
        raise BadRequest(
            f'output "{output.name}" has other shapes for each: {shapes}; ask for one at a time'
        ) from None


def _times(settled: Sequence[Result[Ran]], preprocess_s: float) -> Times:
    first = settled[0]
    if len(settled) == 1:
        return Times(first.queue_s, preprocess_s, first.compute_s, first.batch_rows, first.padding)
    compute_s, queue_s = max(s.compute_s for s in settled), min(s.queue_s for s in settled)
    widest = max(settled, key=lambda s: s.batch_rows)
    return Times(queue_s, preprocess_s, compute_s, widest.batch_rows, widest.padding)
