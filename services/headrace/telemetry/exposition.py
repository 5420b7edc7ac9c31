"""A process's page of metrics, and the pages of many processes merged into one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
    make_wsgi_app,
)
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, gzip_accepted
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from headrace.telemetry.prometheus import PrometheusLogs

__all__ = ["Page", "Render", "form_of", "merge", "render_of"]

# Characters read of an Accept header; Prometheus' own has some 300.
_MAX_ACCEPT = 1024


class Page(NamedTuple):
    """A page of metrics, its Content-Type and its other headers."""

    content: bytes
    content_type: str
    headers: Sequence[tuple[bytes, bytes]]


# Makes a page, in any thread, from the values of Accept and Accept-Encoding.
Render = Callable[[str | None, str | None], Page]


def _content_type(entry: str) -> str:
    """The content type that prometheus_client chooses for one entry of Accept."""
    try:
        return str(choose_encoder(entry)[1])
    except TypeError:  # a version that is not a number
        return ""


_ESCAPINGS = (openmetrics.ALLOWUTF8, openmetrics.UNDERSCORES, openmetrics.DOTS, openmetrics.VALUES)
# Beside the plain form. Without this list a page would have any version of OpenMetrics that a
# caller names.
_FORMS = {openmetrics.CONTENT_TYPE_LATEST} | {
    _content_type(f"{kind};version=1.0.0;escaping={escaping}")
    for kind in ("application/openmetrics-text", "text/plain")
    for escaping in _ESCAPINGS
}


def form_of(accept: str | None, accept_encoding: str | None) -> tuple[str, str]:
    """The normalized values of Accept and Accept-Encoding, of which there are only a few."""
    content_types = map(_content_type, (accept or "")[:_MAX_ACCEPT].split(","))
    content_type = next(
        (found for found in content_types if found in _FORMS), CONTENT_TYPE_PLAIN_0_0_4
    )
    return content_type, "gzip" if gzip_accepted((accept_encoding or "")[:_MAX_ACCEPT]) else ""


def render_of(registry: CollectorRegistry) -> Render:
    """A function that makes a registry's page, with the process's own figures, like
    prometheus_client's server.
    """
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(PrometheusLogs())
    application = make_wsgi_app(registry)

    def render(accept: str | None, accept_encoding: str | None) -> Page:
        response_headers: dict[str, str] = {}
        request_headers = {"HTTP_ACCEPT": accept, "HTTP_ACCEPT_ENCODING": accept_encoding}
        content = application(
            {
                "REQUEST_METHOD": "GET",
                "PATH_INFO": "/metrics",
                **{name: value for name, value in request_headers.items() if value},
            },
            lambda _, headers: response_headers.update(headers),
        )
        content_type = response_headers.pop("Content-Type")
        headers = [
            (name.lower().encode(), value.encode()) for name, value in response_headers.items()
        ]
        return Page(b"".join(content), content_type, headers)

    return render


class _Families:
    """Collects the families of several pages, each under one name."""

    def __init__(self, families: Mapping[str, Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families.values()


def merge(pages: Mapping[str, str]) -> bytes:
    """Merge pages by process id into one, in which each sample has a `process` label."""
    families: dict[str, Metric] = {}
    for process, page in pages.items():
        for family in text_string_to_metric_families(page):
            merged = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            for sample in family.samples:
                merged.samples.append(sample._replace(labels={**sample.labels, "process": process}))
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return generate_latest(registry)
