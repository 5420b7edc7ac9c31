"""The listeners of the metrics: none misses an event."""

import inspect

import pytest

from headrace.telemetry.events import EdgeEvents, GatewayEvents, ReplicaEvents
from headrace.telemetry.prometheus import PrometheusEdge, PrometheusGateway, PrometheusReplica


def missing(listener: type, events: type) -> set[str]:
    """The events that a listener inherits, and so ignores."""
    return {
        name
        for name, ignored in inspect.getmembers(events, inspect.isfunction)
        if not name.startswith("_") and getattr(listener, name) is ignored
    }


@pytest.mark.parametrize(
    ("listener", "events"),
    [
        (PrometheusEdge, EdgeEvents),
        (PrometheusGateway, GatewayEvents),
        (PrometheusReplica, ReplicaEvents),
    ],
)
def test_every_event_reaches_the_metrics(listener: type, events: type) -> None:
    assert missing(listener, events) == set()


def test_a_listener_that_lacks_an_event_is_found() -> None:
    class Lacking(PrometheusEdge):
        request_failed = EdgeEvents.request_failed

    assert missing(Lacking, EdgeEvents) == {"request_failed"}
    assert "cache_hit" in missing(GatewayEvents, GatewayEvents)
