"""A process's metrics as a page, and many processes' metrics as one page."""

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

# What is read of a wish; Prometheus' own has some 300 characters.
_MAX_WISH = 1024


class Page(NamedTuple):
    """A page of metrics, its Content-Type and its other headers."""

    content: bytes
    content_type: str
    headers: Sequence[tuple[bytes, bytes]]


# Makes a page, in any thread, in the form that Accept and Accept-Encoding ask for.
Render = Callable[[str | None, str | None], Page]


def _content_type(wish: str) -> str:
    """What prometheus_client makes of one entry of Accept."""
    try:
        return str(choose_encoder(wish)[1])
    except TypeError:  # a version that is no number
        return ""


_ESCAPINGS = (openmetrics.ALLOWUTF8, openmetrics.UNDERSCORES, openmetrics.DOTS, openmetrics.VALUES)
# Beside the plain one. Without this list a page would be of whatever version of OpenMetrics is wished for.
_FORMS = {openmetrics.CONTENT_TYPE_LATEST} | {
    _content_type(f"{kind};version=1.0.0;escaping={escaping}")
    for kind in ("application/openmetrics-text", "text/plain")
    for escaping in _ESCAPINGS
}


def form_of(accept: str | None, accept_encoding: str | None) -> tuple[str, str]:
    """The form that these headers ask for, one of a few, as headers that ask for it."""
    wished = map(_content_type, (accept or "")[:_MAX_WISH].split(","))
    content_type = next((one for one in wished if one in _FORMS), CONTENT_TYPE_PLAIN_0_0_4)
    return content_type, "gzip" if gzip_accepted((accept_encoding or "")[:_MAX_WISH]) else ""


def render_of(registry: CollectorRegistry) -> Render:
    """What makes a registry's page, with the process's own figures, as prometheus_client's own server does."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(PrometheusLogs())
    application = make_wsgi_app(registry)

    def render(accept: str | None, accept_encoding: str | None) -> Page:
        told: dict[str, str] = {}
        asked = {"HTTP_ACCEPT": accept, "HTTP_ACCEPT_ENCODING": accept_encoding}
        content = application(
            {
                "REQUEST_METHOD": "GET",
                "PATH_INFO": "/metrics",
                **{name: value for name, value in asked.items() if value},
            },
            lambda _, headers: told.update(headers),
        )
        content_type = told.pop("Content-Type")
        headers = [(name.lower().encode(), value.encode()) for name, value in told.items()]
        return Page(b"".join(content), content_type, headers)

    return render


class _Families:
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
            merged = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            for sample in family.samples:
                merged.samples.append(sample._replace(labels={**sample.labels, "process": process}))
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return generate_latest(registry)
