"""What a process says of itself at its /metrics."""

import http.client
from collections.abc import Sequence

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

__all__ = ["samples"]

_TIMEOUT_S = 10.0


def samples(place: str) -> Sequence[Sample]:
    """Every sample of the process at `host:port`. Raises OSError if it does not answer."""
    connection = http.client.HTTPConnection(place, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]
