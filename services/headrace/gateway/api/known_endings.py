"""All endings of a gateway's requests: every api with every error."""

from headrace.edge.exchange import NO_ROUTE
from headrace.edge.problems import ENDINGS
from headrace.gateway.api.endpoints import ENDPOINTS
from headrace.telemetry.endings import Ending, KnownEndings
from headrace_models.spec import ModelSpec

__all__ = ["KNOWN_ENDINGS"]

# The endings of requests whose model is known; all others are refused before.
_WITH_MODEL = [
    end for end in ENDINGS if end[0] in {200, 400, 404, 409, 413, 415, 499, 500, 503, 504}
]

_families = {endpoint.api for endpoint in ENDPOINTS}
_apis = {api.name for api in _families} | {NO_ROUTE.api}
_of_server = {e.api.name for e in ENDPOINTS if any(not e.names_model(path) for path in e.paths)}


def _of_version(spec: ModelSpec) -> frozenset[Ending]:
    """The endings at the apis that serve a model; at others Prometheus may miss a first refusal."""
    return frozenset(
        Ending(api.name, *end) for api in _families if api.serves(spec) for end in _WITH_MODEL
    )


KNOWN_ENDINGS = KnownEndings(
    without_model=frozenset(
        Ending(api, *end) for api in _apis for end in ENDINGS if end[0] != 200 or api in _of_server
    ),
    of_version=_of_version,
    timed_apis=_apis - _of_server,
    body_apis={e.api.name for e in ENDPOINTS if e.method == "POST"} | {NO_ROUTE.api},
)
