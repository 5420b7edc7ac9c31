"""The counts of a replica since it loaded: plain integers, about a microsecond a request."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from headrace.inference.request import Times
from headrace.inference.statistics import BatchStats, Duration, InferenceStats, Statistics

__all__ = ["Counters", "Execution"]

# The most batch sizes that are told apart, so that the counts fit a frame; totals hold all of them.
_MAX_SIZES = 1024


@dataclass(slots=True, eq=False)
class Execution:
    """One run of the model: its rows, and the nanoseconds to form the batch, run and split it."""

    rows: int
    input_ns: int
    infer_ns: int
    output_ns: int
    is_counted: bool = False


@dataclass(slots=True)
class _Totals:
    """The sums of all batches of one size, or of all requests."""

    count: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0


@dataclass(slots=True)
class Counters:
    """Counts requests and executions, in the event loop's thread."""

    served: _Totals = field(default_factory=_Totals)
    served_ns: int = 0
    queue_ns: int = 0
    failed: int = 0
    failed_ns: int = 0
    rows: int = 0
    executions: int = 0
    last: datetime | None = None
    by_size: dict[int, _Totals] = field(default_factory=dict)

    def request_served(
        self,
        *,
        rows: int,
        ns: int,
        times: Times,
        packing_ns: int,
        executions: Collection[Execution],
    ) -> None:
        """Count a request that took `ns` in this replica and ran in these executions."""
        served = self.served
        served.count += 1
        served.input_ns += int(times.preprocess_s * 1e9)
        served.output_ns += packing_ns
        self.served_ns += ns
        self.queue_ns += int(times.queue_s * 1e9)
        self.rows += rows
        self.last = datetime.now(UTC)
        for execution in executions:
            self._request_ran(execution)

    def request_failed(self, ns: int) -> None:
        self.failed += 1
        self.failed_ns += ns

    def _request_ran(self, execution: Execution) -> None:
        """Count the execution's time for each request that ran in it, and once for its size.

        Executions without a request, the golden rows of an idle replica, do not count.
        """
        served = self.served
        served.input_ns += execution.input_ns
        served.infer_ns += execution.infer_ns
        served.output_ns += execution.output_ns
        if not execution.is_counted:
            execution.is_counted = True
            self.executions += 1
            self._count_size(execution)

    def _count_size(self, execution: Execution) -> None:
        size = self.by_size.get(execution.rows)
        if size is None:
            if len(self.by_size) >= _MAX_SIZES:
                return
            size = self.by_size[execution.rows] = _Totals()
        size.count += 1
        size.input_ns += execution.input_ns
        size.infer_ns += execution.infer_ns
        size.output_ns += execution.output_ns

    def statistics(self) -> Statistics:
        count = self.served.count
        return Statistics(
            last_inference=int(self.last.timestamp() * 1000) if self.last else 0,
            inference_count=self.rows,
            execution_count=self.executions,
            inference_stats=InferenceStats(
                success=Duration(count, self.served_ns),
                fail=Duration(self.failed, self.failed_ns),
                queue=Duration(count, self.queue_ns),
                **_durations(self.served),
            ),
            batch_stats=tuple(_batch_stats(sorted(self.by_size.items()))),
        )


def _batch_stats(sizes: Iterable[tuple[int, _Totals]]) -> Iterable[BatchStats]:
    return (BatchStats(batch_size=size, **_durations(totals)) for size, totals in sizes)


def _durations(totals: _Totals) -> dict[str, Duration]:
    return {
        "compute_input": Duration(totals.count, totals.input_ns),
        "compute_infer": Duration(totals.count, totals.infer_ns),
        "compute_output": Duration(totals.count, totals.output_ns),
    }
