"""What a process says of itself at its /metrics."""

import http.client

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["gauges"]

_HELD = ("headrace_requests_in_flight", "headrace_queue_rows", "headrace_running_rows")
_TIMEOUT_S = 10.0


def gauges(place: str) -> float:
    """The requests and rows that the process at `host:port` holds now."""
    connection = http.client.HTTPConnection(place, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    families = text_string_to_metric_families(text)
    return sum(sample.value for family in families for sample in family.samples if sample.name in _HELD)
