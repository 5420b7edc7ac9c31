"""How requests end: counted by status and timed by outcome, for every model and for none.

The ways in which a request may end are there at 0 before the first one takes them: Prometheus sees an increase only of
what it has seen before, so that a first burst would be lost.
"""

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram

from headrace.errors import Outcome
from headrace_models.spec import ModelSpec

__all__ = ["Endings", "Way", "Ways"]

# Versions that left are shown until so many others have left after them: what was counted last must be scraped too,
# but versions come and go for as long as a process lives.
_KEPT = 32

Key = tuple[str, str]  # a model's name and version


class Way(NamedTuple):
    """Where a request came in and how it ended."""

    api: str
    status: int
    outcome: Outcome


def _none(_: ModelSpec) -> Collection[Way]:
    return ()


class Ways(NamedTuple):
    """What is there at 0: the ways of requests whose model is not known, those of a version, and apis with bodies.

    `timed_apis` are those whose answers are timed from the start.
    """

    without_model: Collection[Way] = ()
    of_version: Callable[[ModelSpec], Collection[Way]] = _none
    timed_apis: Collection[str] = ()
    body_apis: Collection[str] = ()


class Endings:
    """Children by (model, version, way): all from specs and fixed tables, so that they are bounded."""

    def __init__(self, registry: CollectorRegistry, buckets: tuple[float, ...], ways: Ways) -> None:
        labels = ["model", "version", "api"]
        self._requests = Counter(
            "headrace_requests",
            "Requests that ended, by HTTP status and whose that is.",
            [*labels, "code", "outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "headrace_request_seconds",
            "From the request's last byte to its end.",
            [*labels, "outcome"],
            buckets=buckets,
            registry=registry,
        )
        self._ways = ways
        self._children: dict[tuple[str, str, str, int, Outcome], tuple[Counter, Histogram]] = {}
        self._present: dict[Key, ModelSpec] = {}
        self._left: dict[Key, ModelSpec] = {}  # the last one at the end
        self._show("", "", ways.without_model)

    def count(
        self, model: str, version: str, api: str, status: int, outcome: Outcome, seconds: float
    ) -> None:
        key = (model, version, api, status, outcome)
        requests, latency = self._children.get(key) or self._add(key)
        requests.inc()
        latency.observe(seconds)

    def joined(self, spec: ModelSpec) -> None:
        key = (spec.name, spec.version)
        self._left.pop(key, None)
        self._present[key] = spec
        self._show(*key, self._ways.of_version(spec))

    def left(self, spec: ModelSpec) -> Collection[str]:
        """Keep a version for a while that left; gives the model of which nothing is kept any more for it, if any."""
        key = (spec.name, spec.version)
        self._present.pop(key, None)
        self._left[key] = spec
        if len(self._left) <= _KEPT:
            return ()
        oldest = self._left.pop(next(iter(self._left)))
        self._remove(oldest)
        return {oldest.name} - {model for model, _ in (*self._present, *self._left)}

    def _show(self, model: str, version: str, ways: Collection[Way]) -> None:
        """At 0; of times those of answers, since nobody looks how long a first refusal took."""
        for api, status, outcome in ways:
            self._requests.labels(model, version, api, str(status), outcome)
            if outcome == "answered" and api in self._ways.timed_apis:
                self._seconds.labels(model, version, api, outcome)

    def _add(self, key: tuple[str, str, str, int, Outcome]) -> tuple[Counter, Histogram]:
        model, version, api, status, outcome = key
        children = self._children[key] = (
            self._requests.labels(model, version, api, str(status), outcome),
            self._seconds.labels(model, version, api, outcome),
        )
        return children

    def _remove(self, spec: ModelSpec) -> None:
        model, version = spec.name, spec.version
        taken = [key for key in self._children if key[:2] == (model, version)]
        for key in taken:
            del self._children[key]
        for api, status, outcome in {
            *self._ways.of_version(spec),
            *(key[2:] for key in taken),
        }:
            with suppress(KeyError):
                self._requests.remove(model, version, api, str(status), outcome)
            with suppress(KeyError):
                self._seconds.remove(model, version, api, outcome)
