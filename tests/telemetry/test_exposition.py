"""The metrics of many processes on one page, and the names that boards and alerts use."""

import gzip
import math
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from headrace.inference.request import Times
from headrace.telemetry.exposition import form_of, merge, render_of
from headrace.telemetry.prometheus import BATCH_ROWS, SECONDS, PrometheusGateway, PrometheusReplica


def samples(page: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def gateway_page(requests: int) -> str:
    registry = CollectorRegistry()
    gateway = PrometheusGateway(registry)
    gateway.watch_in_flight(lambda: 3)
    for _ in range(requests):
        gateway.request_ended("m", "1", "infer", 200, "answered", 0.02)
    gateway.request_retried("m")
    gateway.loop_lagged(0.001)
    return generate_latest(registry).decode()


def total(page: str, name: str) -> float:
    return sum(value for (found, _), value in samples(page).items() if found == name)


def test_a_merged_page_parses_and_sums_what_its_pages_held() -> None:
    merged = merge({"gateway-a": gateway_page(2), "gateway-b": gateway_page(5)}).decode()
    assert total(merged, "headrace_requests_total") == 7
    assert total(merged, "headrace_request_seconds_count") == 7
    assert total(merged, "headrace_retries_total") == 2
    assert total(merged, "headrace_requests_in_flight") == 6


def test_each_sample_names_its_process_and_keeps_its_labels() -> None:
    pages = {"a": gateway_page(1), "b": gateway_page(2)}
    expected = {
        (name, labels | {("process", process)}): value
        for process, page in pages.items()
        for (name, labels), value in samples(page).items()
    }
    assert samples(merge(pages).decode()) == expected


def test_a_family_is_described_once() -> None:
    merged = merge({"a": gateway_page(1), "b": gateway_page(1)}).decode()
    described = [line for line in merged.splitlines() if line.startswith("# TYPE")]
    assert len(described) == len(set(described))


def test_odd_values_and_labels_survive() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("odd", 'A help with \\ and "quotes".', ["path"], registry=registry)
    for label, value in (('a"b\\c\nd', math.inf), ("é", -math.inf), ("", 1e-300)):
        gauge.labels(label).set(value)
    page = generate_latest(registry).decode()
    again = samples(merge({"p": page}).decode())
    assert {labels - {("process", "p")}: v for (_, labels), v in again.items()} == {
        labels: v for (_, labels), v in samples(page).items()
    }


def test_a_merged_page_may_be_merged_again() -> None:
    once = merge({"a": gateway_page(1)}).decode()
    assert total(merge({"b": once}).decode(), "headrace_requests_total") == 1


def test_no_pages_make_an_empty_page() -> None:
    assert merge({}) == b""


@dataclass
class Cost:
    base_s: float = 0.25
    cell_s: float = 0.125


class Queue:
    waiting_rows, running_rows, cost = 4, 2, Cost()

    def wait_s(self) -> float:
        return 0.5


def test_a_replica_tells_its_stages_apart() -> None:
    registry = CollectorRegistry()
    replica = PrometheusReplica(registry, "m", "1")
    replica.watch_batcher(Queue())
    replica.batch_ran(3, 30, 6)
    replica.batch_repeated(5)
    replica.request_served(Times(queue_s=0.25, preprocess_s=0.0, compute_s=0.5, batch_rows=3))
    replica.request_served(Times(queue_s=0.25, preprocess_s=0.125, compute_s=0.5, batch_rows=3))
    page = generate_latest(registry).decode()
    assert [
        total(page, f"headrace_{name}")
        for name in (
            "queue_seconds_sum",
            "preprocess_seconds_count",
            "compute_seconds_sum",
            "batch_rows_sum",
        )
    ] == [0.5, 1, 1.0, 3]
    assert (total(page, "headrace_queue_rows"), total(page, "headrace_running_rows")) == (4, 2)
    assert total(page, "headrace_queue_wait_seconds") == 0.5
    assert (
        total(page, "headrace_batch_base_seconds"),
        total(page, "headrace_batch_cell_seconds"),
    ) == (0.25, 0.125)
    assert total(page, "headrace_batch_cells_total") == 36
    assert total(page, "headrace_batch_repeats_total") == 5


@pytest.mark.parametrize("buckets", [SECONDS, BATCH_ROWS])
def test_buckets_grow(buckets: tuple[float, ...]) -> None:
    assert list(buckets) == sorted(set(buckets))


def test_a_page_has_the_processs_own_figures() -> None:
    registry = CollectorRegistry()
    Counter("mine", "Mine.", registry=registry).inc()
    page = render_of(registry)(None, None).content.decode()
    assert total(page, "mine_total") == 1
    assert total(page, "process_open_fds") > 0


# What Prometheus 2.42 sends with each scrape.
_PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/plain; version=0.0.4"),
        (_PROMETHEUS, "application/openmetrics-text; version=1.0.0"),
        ("text/plain;version=1.0.0", "text/plain; version=1.0.0"),
    ],
)
def test_a_page_has_the_form_that_is_asked_for(accept: str | None, content_type: str) -> None:
    render = render_of(CollectorRegistry())
    assert render(*form_of(accept, "br, deflate")).content_type.startswith(
        f"{content_type}; charset=utf-8"
    )
    assert render(accept, None).content_type.startswith(f"{content_type}; charset=utf-8")
    for asked in ((accept, "gzip"), form_of(accept, "br, gzip;q=1.0")):
        compressed = render(*asked)
        assert compressed.headers == [(b"content-encoding", b"gzip")]
        assert b"process_open_fds" in gzip.decompress(compressed.content)


def test_there_are_few_forms_however_many_ways_there_are_to_ask() -> None:
    kinds = "text/plain", "application/openmetrics-text", "application/json", "*/*", ""
    versions = "0.0.4", "1.0.0", "1.0.1", "2.0.0", "9.9.9.9", "x", ""
    asked = [
        f"{kind};version={version};escaping={escaping};q={n}"
        for kind in kinds
        for version in versions
        for escaping in ("allow-utf-8", "underscores", "dots", "values", "mine", "yours")
        for n in range(3)
    ]
    forms = {
        form_of(accept, encoding)
        for accept in asked
        for encoding in ("gzip", "GZIP;q=1", "br", "x" * 5000)
    }
    assert len(forms) <= 2 * 10
    assert {form_of(*form) for form in forms} <= forms


def test_a_form_that_is_not_known_is_passed_over_for_one_that_is() -> None:
    accept = (
        "application/openmetrics-text;version=2.0.0,"
        "application/openmetrics-text;version=1.0.0;escaping=dots;q=0.5"
    )
    assert form_of(accept, None) == form_of(
        "application/openmetrics-text;version=1.0.0;escaping=dots", None
    )
