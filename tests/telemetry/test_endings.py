"""Counters that exist at 0, for present versions and for a bounded number that left."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tests.gateway.router_harness import spec

from headrace.gateway.api.known_endings import KNOWN_ENDINGS
from headrace.inference.request import Times
from headrace.telemetry.endings import Ending
from headrace.telemetry.prometheus import PrometheusEdge, PrometheusGateway, PrometheusReplica
from headrace_models.spec import ModelSpec

TROUBLE = {"code": "503", "outcome": "state", "api": "infer"}


class Gateway:
    """A gateway's metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = PrometheusGateway(self.registry, KNOWN_ENDINGS)

    def fails(self, version: ModelSpec) -> None:
        self.events.request_ended(version.name, version.version, "infer", 503, "state", 0.25)

    def failures(self, version: ModelSpec) -> float | None:
        labels = {"model": version.name, "version": version.version, **TROUBLE}
        return self.registry.get_sample_value("headrace_requests_total", labels)

    def series(self) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
        return sorted(
            (s.name, tuple(sorted(s.labels.items())))
            for f in self.registry.collect()
            for s in f.samples
        )


def test_a_version_that_joins_has_failed_0_times() -> None:
    gateway = Gateway()
    assert gateway.failures(spec()) is None
    gateway.events.version_joined(spec())
    assert gateway.failures(spec()) == 0


def test_a_version_that_leaves_and_comes_back_has_lost_nothing() -> None:
    gateway = Gateway()
    gateway.events.version_joined(spec())
    gateway.fails(spec())
    gateway.events.version_left(spec())
    assert gateway.failures(spec()) == 1
    gateway.events.version_joined(spec())
    gateway.events.version_joined(spec())
    gateway.fails(spec())
    assert gateway.failures(spec()) == 2


@pytest.mark.slow("searches many generated cases")
def test_versions_may_come_and_go_for_ever() -> None:
    gateway = Gateway()
    gateway.events.version_joined(spec("stays"))
    gateway.fails(spec("stays"))
    sizes = []
    for number in range(100):
        gateway.events.version_joined(spec(str(number)))
        gateway.fails(spec(str(number)))
        # Nothing at 0 has this.
        gateway.events.request_ended("tiny", str(number), "classify", 400, "caller", 0.0)
        gateway.events.version_left(spec(str(number)))
        sizes.append(len(gateway.series()))
    assert len(set(sizes[-50:])) == 1
    assert gateway.failures(spec("0")) is None
    assert [gateway.failures(spec(version)) for version in ("99", "stays")] == [1, 1]


def test_a_version_that_was_forgotten_counts_from_0_again() -> None:
    gateway = Gateway()
    for number in [*range(50), 0]:
        gateway.events.version_joined(spec(str(number)))
        gateway.fails(spec(str(number)))
        gateway.events.version_left(spec(str(number)))
    assert gateway.failures(spec("0")) == 1


def test_of_a_model_without_versions_nothing_is_left_in_the_end() -> None:
    gateway = Gateway()
    others = [spec("1", f"m{number}") for number in range(40)]
    for one in others:
        gateway.events.version_joined(one)
        gateway.events.request_retried(one.name)
    for one in others:
        gateway.events.version_left(one)

    def retries(model: str) -> float | None:
        return gateway.registry.get_sample_value("headrace_retries_total", {"model": model})

    assert (retries("m0"), retries("m39")) == (None, 1)


def test_requests_add_no_series_to_a_counter() -> None:
    gateway = Gateway()
    gateway.events.version_joined(spec())
    before = [name for name in gateway.series() if name[0].endswith("_total")]
    gateway.fails(spec())
    for ending in KNOWN_ENDINGS.without_model:
        gateway.events.request_ended("", "", *ending, 0.001)
    for ending in KNOWN_ENDINGS.of_version(spec()):
        gateway.events.request_ended("tiny", "1", *ending, 0.001)
    gateway.events.poison_refused("tiny")
    gateway.events.request_retried("tiny")
    gateway.events.cache_hit("tiny")
    gateway.events.cache_missed("tiny")
    gateway.events.cache_shared("tiny")
    gateway.events.request_failed("overloaded")
    assert [name for name in gateway.series() if name[0].endswith("_total")] == before


def test_a_models_own_doors_are_there_and_no_others() -> None:
    def endpoints(**more: Any) -> set[str]:
        return {ending.api for ending in KNOWN_ENDINGS.of_version(spec().model_copy(update=more))}

    assert endpoints() == {"infer", "predict", "generate", "metadata"}
    assert endpoints(task="embed") - endpoints() == {"embeddings"}
    assert Ending("infer", 504, "state") in KNOWN_ENDINGS.of_version(spec())


def test_a_port_has_all_errors_at_0_with_their_outcomes() -> None:
    registry = CollectorRegistry()
    PrometheusEdge(registry).request_failed("sequence_lost")

    def count(code: str, outcome: str) -> float | None:
        return registry.get_sample_value(
            "headrace_errors_total", {"code": code, "outcome": outcome}
        )

    assert count("sequence_lost", "state") == 1
    assert (count("internal", "ours"), count("bad_json", "caller"), count("bad_json", "ours")) == (
        0,
        0,
        None,
    )


def test_a_model_that_makes_no_tensors_has_no_figures_of_that() -> None:
    registry = CollectorRegistry()
    replica = PrometheusReplica(registry, "m", "1", has_raw_input=False)
    replica.request_served(Times(0.25, 0.0, 0.5, 1))
    names = {sample.name for family in registry.collect() for sample in family.samples}
    assert "headrace_queue_seconds_count" in names
    assert "headrace_preprocess_seconds_count" not in names
