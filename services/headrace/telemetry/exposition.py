"""A process's metrics over HTTP, and many processes' metrics as one page."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from headrace.telemetry.prometheus import PrometheusLogs

__all__ = ["expose", "merge"]


@contextmanager
def expose(registry: CollectorRegistry, host: str) -> Iterator[str]:
    """Serve a registry, with the process's own figures, at a free port of `host`; gives `host:port`."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(PrometheusLogs())
    server, thread = start_http_server(0, addr=host, registry=registry)
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


class _Page:
    """Families of several pages under one name each, as a collector."""

    def __init__(self, families: Mapping[str, Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families.values()


def merge(pages: Mapping[str, str]) -> bytes:
    """Exposition pages by process id -> one page, each sample with a `process` label."""
    families: dict[str, Metric] = {}
    for process, page in pages.items():
        for family in text_string_to_metric_families(page):
            merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                merged.samples.append(sample._replace(labels={**sample.labels, "process": process}))
    registry = CollectorRegistry()
    registry.register(_Page(families))
    return generate_latest(registry)
