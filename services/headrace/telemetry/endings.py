"""Counts of how requests end, by status, and their times, by outcome, with and without a model.

Every known ending exists at 0 before the first request ends so: Prometheus only sees an increase of
a series that it has seen before, and a first burst would be lost.
"""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram

from headrace.errors import Outcome
from headrace_models.names import VersionId
from headrace_models.spec import ModelSpec

__all__ = ["Ending", "EndingCounts", "KnownEndings"]

# The last versions that left are still shown, so that their last counts are scraped. The number is
# bounded because versions come and go for as long as a process lives.
_SHOWN_AFTER_LEAVING = 32


class Ending(NamedTuple):
    """A way in which a request of an api may end."""

    api: str
    status: int
    outcome: Outcome


def _no_endings(_: ModelSpec) -> Collection[Ending]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownEndings:
    """The endings, and apis, whose series exist from the start."""

    # Of requests whose model is not known.
    without_model: Collection[Ending] = ()
    # Of requests for a version.
    of_version: Callable[[ModelSpec], Collection[Ending]] = _no_endings
    # Apis whose answers are timed.
    timed_apis: Collection[str] = ()
    # Apis that receive bodies.
    body_apis: Collection[str] = ()


class EndingCounts:
    """Metrics by model, version and ending: from specs and fixed tables, so bounded."""

    def __init__(
        self, registry: CollectorRegistry, buckets: tuple[float, ...], known: KnownEndings
    ) -> None:
        labels = ["model", "version", "api"]
        self._requests = Counter(
            "headrace_requests",
            "Requests that ended, by HTTP status and by who caused it.",
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
        self._known = known
        self._children: dict[tuple[str, str, str, int, Outcome], tuple[Counter, Histogram]] = {}
        self._present: dict[VersionId, ModelSpec] = {}
        self._left: dict[VersionId, ModelSpec] = {}  # in the order in which they left
        self._add_at_zero("", "", known.without_model)

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
        self._add_at_zero(*key, self._known.of_version(spec))

    def left(self, spec: ModelSpec) -> Collection[str]:
        """Go on showing a version that left, and drop the one that left longest ago.

        Returns the dropped version's model if no other version of it is shown.
        """
        key = (spec.name, spec.version)
        self._present.pop(key, None)
        self._left[key] = spec
        if len(self._left) <= _SHOWN_AFTER_LEAVING:
            return ()
        oldest = self._left.pop(next(iter(self._left)))
        self._remove(oldest)
        return {oldest.name} - {model for model, _ in (*self._present, *self._left)}

    def _add_at_zero(self, model: str, version: str, endings: Collection[Ending]) -> None:
        """Times only for answers: nobody looks at how long a first refusal took."""
        for api, status, outcome in endings:
            self._requests.labels(model, version, api, str(status), outcome)
            if outcome == "answered" and api in self._known.timed_apis:
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
            *self._known.of_version(spec),
            *(key[2:] for key in taken),
        }:
            with suppress(KeyError):
                self._requests.remove(model, version, api, str(status), outcome)
            with suppress(KeyError):
                self._seconds.remove(model, version, api, outcome)
