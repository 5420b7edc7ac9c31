"""Gauges of requests and rows that a process holds."""

from loadtests.support.metrics import samples

__all__ = ["gauges"]

_HELD = ("headrace_requests_in_flight", "headrace_queue_rows", "headrace_running_rows")


def gauges(address: str) -> float:
    """The requests and rows that the process at `host:port` holds now."""
    return sum(sample.value for sample in samples(address) if sample.name in _HELD)
