"""Reads the metrics of a process."""

from collections.abc import Sequence

from loadtests.support.http_request import http_request
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

__all__ = ["samples"]

_TIMEOUT_S = 10.0


def samples(address: str) -> Sequence[Sample]:
    """Every sample of the process at `host:port`. Raises OSError if it does not answer."""
    text = http_request(address, "GET", "/metrics", timeout_s=_TIMEOUT_S).body.decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]
