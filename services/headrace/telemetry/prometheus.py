"""The Prometheus listeners.

Every metric of the project is named here or in `endings`, and nowhere else.

Labels come from specs and fixed tables, so strangers cannot make a scrape grow. Counters exist at 0
before their first event, because Prometheus only sees an increase of a series that it has seen
before.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from headrace.errors import OUTCOMES, Outcome
from headrace.inference.request import Times
from headrace.telemetry.endings import EndingCounts, KnownEndings
from headrace.telemetry.events import EdgeEvents, GatewayEvents, QueueView, ReplicaEvents
from headrace.telemetry.logs import dropped_lines
from headrace_models.spec import ModelSpec

__all__ = [
    "BATCH_ROWS",
    "SECONDS",
    "PrometheusEdge",
    "PrometheusGateway",
    "PrometheusLogs",
    "PrometheusReplica",
]

# Up to the longest deadline that a request may have.
SECONDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    100.0,
    300.0,
)
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# Creation times would be a second series for each counter, which nobody reads.
disable_created_metrics()  # type: ignore[no-untyped-call] # the library's own lack of types

M = TypeVar("M", bound=MetricWrapperBase)

_NO_ENDINGS = KnownEndings()


class _Families:
    """Makes families of metrics that have the same labels, and lists them in `made`.

    With `values` of the labels it returns their children instead.
    """

    def __init__(
        self, registry: CollectorRegistry, labels: Sequence[str] = (), values: Sequence[str] = ()
    ) -> None:
        self._registry = registry
        self._labels = labels
        self._values = values
        self.made: list[MetricWrapperBase] = []

    def counter(self, name: str, text: str) -> Counter:
        return self._add(Counter(name, text, self._labels, registry=self._registry))

    def gauge(self, name: str, text: str) -> Gauge:
        return self._add(Gauge(name, text, self._labels, registry=self._registry))

    def histogram(self, name: str, text: str, buckets: Sequence[float] = SECONDS) -> Histogram:
        return self._add(
            Histogram(name, text, self._labels, registry=self._registry, buckets=buckets)
        )

    def _add(self, family: M) -> M:
        self.made.append(family)
        return family.labels(*self._values) if self._values else family


class PrometheusEdge(EdgeEvents):
    """Metrics of any port."""

    def __init__(self, registry: CollectorRegistry) -> None:
        errors = _Families(registry, ["code", "outcome"]).counter(
            "headrace_errors", "Requests that ended in an error, by code and by who caused it."
        )
        self._errors = {code: errors.labels(code, outcome) for code, outcome in OUTCOMES.items()}

    def request_failed(self, code: str) -> None:
        self._errors[code].inc()


class PrometheusGateway(PrometheusEdge, GatewayEvents):
    """Metrics of one gateway process; `known` endings are counted from 0."""

    def __init__(self, registry: CollectorRegistry, known: KnownEndings = _NO_ENDINGS) -> None:
        super().__init__(registry)
        of_process = _Families(registry)
        of_api = _Families(registry, ["api"])
        of_model = _Families(registry, ["model"])
        self._of_model = of_model.made
        self._endings = EndingCounts(registry, SECONDS, known)
        receipts = of_api.histogram(
            "headrace_receipt_seconds",
            "From the end of a request's head to the last byte of its body.",
        )
        self._receipts = lru_cache(maxsize=None)(receipts.labels)
        for api in known.body_apis:
            self._receipts(api)
        self._in_flight = of_process.gauge(
            "headrace_requests_in_flight", "Requests in this gateway now."
        )
        self._retries = of_model.counter(
            "headrace_retries",
            "Requests repeated after their replica was lost or their run was stopped.",
        )
        self._waiting = of_process.gauge(
            "headrace_requests_waiting", "Requests that wait for a replica of their model now."
        )
        self._waits = of_model.histogram(
            "headrace_replica_wait_seconds",
            "Waits of requests while no replica of their model was ready.",
        )
        self._troubled = of_model.gauge(
            "headrace_model_in_trouble", "1 while a model fails again and again."
        )
        self._quarantined = of_process.gauge(
            "headrace_quarantined",
            "Inputs refused now because they crash processes or never finish.",
        )
        self._poisoned = of_model.counter(
            "headrace_poisoned",
            "Requests refused because their input crashes processes or never finishes.",
        )
        self._hits = of_model.counter(
            "headrace_cache_hits", "Requests answered from the response cache."
        )
        self._misses = of_model.counter(
            "headrace_cache_misses", "Requests without a cached answer."
        )
        self._shared = of_model.counter(
            "headrace_cache_shared", "Requests that waited for the answer to an equal one."
        )
        self._lag = of_process.histogram(
            "headrace_loop_lag_seconds", "Delay of timers on the gateway's event loop."
        )

    def watch_in_flight(self, requests: Callable[[], int]) -> None:
        self._in_flight.set_function(requests)

    def version_joined(self, spec: ModelSpec) -> None:
        self._endings.joined(spec)
        for family in self._of_model:
            family.labels(spec.name)

    def version_left(self, spec: ModelSpec) -> None:
        for model in self._endings.left(spec):
            for family in self._of_model:
                family.remove(model)

    def body_received(self, api: str, seconds: float) -> None:
        self._receipts(api).observe(seconds)

    def request_ended(
        self, model: str, version: str, api: str, status: int, outcome: Outcome, seconds: float
    ) -> None:
        self._endings.count(model, version, api, status, outcome, seconds)

    def request_retried(self, model: str) -> None:
        self._retries.labels(model).inc()

    def watch_waiting(self, requests: Callable[[], int]) -> None:
        self._waiting.set_function(requests)

    def request_waited(self, model: str, seconds: float) -> None:
        self._waits.labels(model).observe(seconds)

    def model_troubled(self, model: str, *, is_troubled: bool) -> None:
        self._troubled.labels(model).set(is_troubled)

    def watch_quarantine(self, inputs: Callable[[], int]) -> None:
        self._quarantined.set_function(inputs)

    def poison_refused(self, model: str) -> None:
        self._poisoned.labels(model).inc()

    def cache_hit(self, model: str) -> None:
        self._hits.labels(model).inc()

    def cache_missed(self, model: str) -> None:
        self._misses.labels(model).inc()

    def cache_shared(self, model: str) -> None:
        self._shared.labels(model).inc()

    def loop_lagged(self, seconds: float) -> None:
        self._lag.observe(seconds)


class PrometheusReplica(ReplicaEvents):
    """Metrics of one replica process, which serves one model version.

    A model without raw input has no preprocessing times.
    """

    def __init__(
        self, registry: CollectorRegistry, model: str, version: str, *, has_raw_input: bool = True
    ) -> None:
        of_version = _Families(registry, ["model", "version"], [model, version])
        self._queue = of_version.histogram(
            "headrace_queue_seconds", "From joining the queue to the start of the batch."
        )
        self._preprocess = (
            of_version.histogram(
                "headrace_preprocess_seconds", "From raw input (photo, text) to tensors."
            )
            if has_raw_input
            else None
        )
        self._compute = of_version.histogram(
            "headrace_compute_seconds", "The run of the request's batch."
        )
        self._batch_rows = of_version.histogram(
            "headrace_batch_rows", "Rows of a batch.", BATCH_ROWS
        )
        self._waiting = of_version.gauge("headrace_queue_rows", "Rows that wait for a batch now.")
        self._running = of_version.gauge("headrace_running_rows", "Rows in the running batch now.")
        self._wait = of_version.gauge(
            "headrace_queue_wait_seconds", "Predicted wait of a new request."
        )
        self._base = of_version.gauge(
            "headrace_batch_base_seconds",
            "Measured time of a batch that does not depend on its size.",
        )
        self._cell = of_version.gauge(
            "headrace_batch_cell_seconds",
            "Measured time that each row (x padded length) adds to a batch.",
        )
        cells = _Families(registry, ["model", "version", "kind"]).counter(
            "headrace_batch_cells", "Rows x padded length of batches."
        )
        self._real_cells = cells.labels(model, version, "real")
        self._padding_cells = cells.labels(model, version, "padding")
        self._repeats = of_version.counter(
            "headrace_batch_repeats",
            "Additional runs of failed batches, to find the faulty request.",
        )
        self._raw_waiting = of_version.gauge(
            "headrace_preprocess_waiting", "Photos and texts that wait to become tensors now."
        )
        self._sequences = of_version.gauge("headrace_sequences_open", "Open sequences now.")
        self._expired = of_version.counter(
            "headrace_sequences_expired", "Sequences that ended because they were idle."
        )
        self._moved = of_version.counter(
            "headrace_sequences_moved", "Sequences handed over to another replica."
        )

    def batch_ran(self, rows: int, real_cells: int, padding_cells: int) -> None:
        self._batch_rows.observe(rows)
        self._real_cells.inc(real_cells)
        if padding_cells:
            self._padding_cells.inc(padding_cells)

    def batch_repeated(self, runs: int) -> None:
        self._repeats.inc(runs)

    def request_served(self, times: Times) -> None:
        self._queue.observe(times.queue_s)
        self._compute.observe(times.compute_s)
        if times.preprocess_s and self._preprocess is not None:
            self._preprocess.observe(times.preprocess_s)

    def watch_batcher(self, queue: QueueView) -> None:
        self._waiting.set_function(lambda: queue.waiting_rows)
        self._running.set_function(lambda: queue.running_rows)
        self._wait.set_function(queue.wait_s)
        self._base.set_function(lambda: queue.cost.base_s)
        self._cell.set_function(lambda: queue.cost.cell_s)

    def watch_preprocess(self, waiting: Callable[[], int]) -> None:
        self._raw_waiting.set_function(waiting)

    def watch_sequences(self, open_now: Callable[[], int]) -> None:
        self._sequences.set_function(open_now)

    def sequences_expired(self, number: int) -> None:
        self._expired.inc(number)

    def sequences_moved(self, number: int) -> None:
        self._moved.inc(number)


class PrometheusLogs(Collector):
    """Metrics of any process's logs."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        text = "Log lines dropped because the disk was full or nobody read them."
        yield CounterMetricFamily("headrace_log_lines_dropped", text, value=dropped_lines())
