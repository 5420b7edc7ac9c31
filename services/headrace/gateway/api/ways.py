"""The ways in which a gateway's requests may end, out of its routes and of all errors."""

from collections.abc import Iterator

from headrace.edge.problems import ENDS
from headrace.gateway.api.endpoints import ROUTES
from headrace.telemetry.endings import Ending, KnownEndings
from headrace_models.spec import ModelSpec

__all__ = ["WAYS"]

# The one api whose body names the model, and what stands for a api where no route was found.
_NAMED_BY_BODY, _NO_API = "embeddings", "none"
# How a request ends whose model is known; all else is refused before.
_WITH_MODEL = [end for end in ENDS if end[0] in {200, 400, 404, 409, 413, 415, 499, 500, 503, 504}]

_apis = {route.api for route in ROUTES} | {_NO_API}
_of_server = {route.api for route in ROUTES if "{model}" not in route.template} - {_NAMED_BY_BODY}


def _of_version(spec: ModelSpec) -> frozenset[Ending]:
    return frozenset(Ending(api, *end) for api in _apis_of(spec) for end in _WITH_MODEL)


def _apis_of(spec: ModelSpec) -> Iterator[str]:
    """Where a model is asked; at the other apis it only refuses, and a first refusal may be missed."""
    yield from ("infer", "predict", "generate", "metadata")
    if spec.classes and spec.raw:
        yield "classify"
    if spec.audio:
        yield "stream"
    if spec.task == "embed":
        yield "embeddings"


WAYS = KnownEndings(
    without_model=frozenset(
        Ending(api, *end) for api in _apis for end in ENDS if end[0] != 200 or api in _of_server
    ),
    of_version=_of_version,
    timed_apis=_apis - _of_server,
    body_apis={route.api for route in ROUTES if route.method == "POST"} | {_NO_API},
)
