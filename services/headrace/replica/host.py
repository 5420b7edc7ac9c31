"""One model version in a process: loads, warms up, proves, serves and drains it.

No Ray: the same host runs in a plain process.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from time import monotonic, monotonic_ns
from types import TracebackType

from headrace import backends
from headrace.backends import Backend
from headrace.batching import Batcher, CostModel, Limits, Result
from headrace.channel import Health
from headrace.errors import SequenceMoved, ShuttingDown
from headrace.inference.request import Answer, Request, SequenceStep, Times
from headrace.inference.sequences import SequenceKey, SequenceSnapshot
from headrace.inference.statistics import Statistics
from headrace.replica.assembly import length_of, split_rows
from headrace.replica.audio import check_no_audio, is_chunk, run_chunk
from headrace.replica.batches import Batches, Piece
from headrace.replica.counters import Counters, Execution
from headrace.replica.handover import take_over
from headrace.replica.open_sequences import OpenSequences
from headrace.replica.packing import pack, times_of
from headrace.replica.pool import PreprocessPool, threads_for
from headrace.replica.preparation import Preparation, PreparedRequest
from headrace.replica.runner import PartResult
from headrace.replica.sequence_state import next_state, zeros
from headrace.replica.submission import Submission
from headrace.replica.warm_up import warm_up
from headrace.telemetry.events import ReplicaEvents
from headrace_models import preprocess
from headrace_models.repository import ModelVersion

__all__ = ["Host", "Load"]

Load = Callable[[ModelVersion, str], Backend]


class Host:
    """Enter it to load the model and warm it up; leave it to drain and unload."""

    def __init__(
        self, version: ModelVersion, backend: str, events: ReplicaEvents, load: Load = backends.load
    ) -> None:
        self._load = load
        self.version = version
        self.spec = version.spec
        self._backend_name = backend
        self._events = events
        self._stack = AsyncExitStack()
        self._counters = Counters()
        self._accepted = 0
        self._is_draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def __aenter__(self) -> "Host":
        loop = asyncio.get_running_loop()
        spec = self.spec
        executor = self._executor(threads=1)
        pool = PreprocessPool(
            threads_for(spec.raw, spec.replica.cpus), spec.batching.max_waiting_rows, self._events
        )
        self._stack.enter_context(pool)
        preprocessor = preprocess.load(spec.raw, self.version.folder) if spec.raw else None
        self._backend: Backend = await loop.run_in_executor(
            executor, self._load, self.version, self._backend_name
        )
        if self._backend.lanes > 1:  # before the warm-up, which is for the threads that serve
            executor.shutdown(wait=False)
            executor = self._executor(self._backend.lanes)
        proved = await loop.run_in_executor(executor, warm_up, self._backend, self.version)
        self.version = proved.version
        self.spec = proved.version.spec
        self._golden = proved.golden
        self._is_batched = self.spec.is_batched
        self._outputs = {output.name: output for output in self.spec.outputs}
        self._preparation = Preparation(self.spec, preprocessor, pool)
        await self._start_batching(executor, proved.seen)
        self._sequences = await self._stack.enter_async_context(
            OpenSequences(self.spec.sequence, zeros(self.spec), self._events)
        )
        self._stack.enter_context(self._batches.watch)
        self._events.watch_batcher(self._batcher)
        prover = asyncio.create_task(self._batches.readiness.keep(self._run_golden))
        self._stack.callback(prover.cancel)
        return self

    def _executor(self, threads: int) -> ThreadPoolExecutor:
        """The model's threads: one for each batch that the backend takes at a time."""
        executor = ThreadPoolExecutor(threads, thread_name_prefix=f"model-{self.spec.name}")
        self._stack.callback(executor.shutdown, wait=False)
        return executor

    async def _start_batching(
        self, executor: ThreadPoolExecutor, seen: Sequence[tuple[int, float]]
    ) -> None:
        """Start the batcher; `seen` are the cells and seconds of the batches that warmed up."""
        cost = CostModel()
        self._batches = Batches(self._backend, self.spec, executor, cost, self._events)
        limits = Limits(
            max_rows=self.spec.batching.max_rows if self._is_batched else 1,
            max_waiting_rows=self.spec.batching.max_waiting_rows,
            max_running=self._backend.lanes,
        )
        self._batcher: Batcher[Piece, PartResult] = await self._stack.enter_async_context(
            Batcher(self._run_batch, limits, cost=cost)
        )
        self._submission = Submission(self.spec, self._batcher)
        for cells, seconds in seen:
            cost.batch_ran(cells, cells, seconds, monotonic())
            self._batches.past_runs.add(cells, length_of(self._golden, self.spec), seconds)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def drain(self) -> None:
        """Refuse new requests and wait until every accepted one is answered."""
        self._is_draining = True
        await self._idle.wait()
        await self._batcher.drain()

    @property
    def sequences(self) -> OpenSequences:
        return self._sequences

    def take_over(
        self, state_names: Collection[str], snapshots: Sequence[SequenceSnapshot]
    ) -> Sequence[SequenceKey]:
        """Take sequences over from a replica whose model has these states; return those taken."""
        return take_over(self._sequences, state_names, snapshots)

    @property
    def device(self) -> str:
        return self._backend.device

    def health(self) -> Health:
        is_ready = self._batches.readiness.is_ready and not self._is_draining
        return Health(is_ready, self._batcher.waiting_rows)

    def statistics(self) -> Statistics:
        """The counts since the model was loaded."""
        return self._counters.statistics()

    async def infer(self, request: Request) -> Answer:
        """Preprocess, batch, run. A request larger than a batch runs in pieces.

        Raises BadRequest for inputs that cannot become tensors, and what the batcher and the
        sequences raise.
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
        if step is None:
            prepared = await self._preparation.prepare(request, {})
            results = await self._submission.run(prepared.pieces, request)
        elif is_chunk(self.spec, request):
            return await self._run_chunk(request, step, started_ns)
        else:
            async with self._sequences.run_step(step, request.deadline_s) as running:
                state = check_no_audio(running.state)
                prepared = await self._preparation.prepare(request, state)
                results = await self._submission.run(prepared.pieces, request)
                running.state = next_state(self.spec, results[0].value.outputs)
        return self._pack(request, prepared, results, started_ns)

    def _pack(
        self,
        request: Request,
        prepared: PreparedRequest,
        results: Sequence[Result[PartResult]],
        started_ns: int,
    ) -> Answer:
        ran_ns = monotonic_ns()
        answer = Answer(
            outputs=pack(results, request.outputs or tuple(self._outputs), self._outputs),
            times=times_of(results, prepared.preprocess_s),
            tokens=prepared.tokens,
            truncated=prepared.truncated,
        )
        executions: Collection[Execution] = [result.value.execution for result in results]
        if len(executions) > 1:
            # Pieces of one request may have shared an execution, whose time it spent once.
            executions = set(executions)
        rows = request.inputs[0].rows if self._is_batched else len(results)
        self._record(answer.times, rows, executions, started_ns, ran_ns)
        return answer

    async def _run_chunk(self, request: Request, step: SequenceStep, started_ns: int) -> Answer:
        """Run the frames of audio that a chunk completes, one after the other."""
        async with self._sequences.run_step(step, request.deadline_s) as running:
            chunk = await run_chunk(
                self.spec,
                step,
                request.inputs,
                running.state,
                lambda frame: self._submission.submit(frame, request),
            )
            running.state = chunk.state
        self._record(
            chunk.times, len(chunk.executions), chunk.executions, started_ns, monotonic_ns()
        )
        return Answer(chunk.outputs, chunk.times)

    def _record(
        self,
        times: Times,
        rows: int,
        executions: Collection[Execution],
        started_ns: int,
        ran_ns: int,
    ) -> None:
        """Count a request that ran until `ran_ns` and was packed just now."""
        now_ns = monotonic_ns()
        self._events.request_served(times)
        self._counters.request_served(
            rows=rows,
            ns=now_ns - started_ns,
            times=times,
            packing_ns=now_ns - ran_ns,
            executions=executions,
        )

    async def _run_batch(self, pieces: Sequence[Piece]) -> Sequence[PartResult | Exception]:
        results = await self._batches.run(pieces)
        self._batcher.limit_cells(self._batches.safe_cells)
        return results

    async def _run_golden(self, request: Request) -> None:
        """Run one golden row as this request."""
        row = split_rows(self._golden, 1)[0] if self._is_batched else self._golden
        await self._submission.submit(row, request)
