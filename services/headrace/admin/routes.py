"""The admin port's routes, and its conditions for callers."""

from contextlib import AbstractContextManager, nullcontext

from headrace.admin import pages, repository
from headrace.admin.repository import AdminContext
from headrace.edge.exchange import Exchange, Handler, Route
from headrace.edge.origin_check import OriginCheck
from headrace.errors import Forbidden
from headrace.keys import KeyRing
from headrace.telemetry.events import EdgeEvents

__all__ = ["ROUTES", "AdminPolicy"]

READ = "admin"
CHANGE = "repository"
_MODELS = "/v2/repository/models/{model}"
_OF_REPOSITORY = "/v2/repository/{repository}"


def _get(template: str, handler: Handler[AdminContext], api: str = READ) -> Route[AdminContext]:
    return Route(method="GET", template=template, api=api, handler=handler)


def _post(template: str, handler: Handler[AdminContext]) -> Route[AdminContext]:
    return Route(method="POST", template=template, api=CHANGE, handler=handler)


ROUTES: tuple[Route[AdminContext], ...] = (
    _get("/metrics", pages.metrics),
    _get("/sd", pages.discovery),
    _get("/healthz", pages.health),
    _get("/v2", pages.server_metadata),
    _get("/v2/", pages.server_metadata),
    _get("/v2/logging", repository.get_logging, CHANGE),
    _post("/v2/logging", repository.set_logging),
    _post("/v2/repository/index", repository.index),
    _post(_MODELS + "/load", repository.load),
    _post(_MODELS + "/unload", repository.unload),
    _post(_OF_REPOSITORY + "/index", repository.unsupported),
    _post(_OF_REPOSITORY + "/models/{model}/load", repository.unsupported),
    _post(_OF_REPOSITORY + "/models/{model}/unload", repository.unsupported),
)


class AdminPolicy:
    """If there are keys, asks for an admin's key: on loopback only for changes.

    So Prometheus and `headrace status` read the pages of a loopback port without one. No page of
    another site may change anything.
    """

    def __init__(self, events: EdgeEvents, keys: KeyRing | None, *, is_loopback: bool) -> None:
        self._events = events
        self._keys = keys
        self._is_loopback = is_loopback
        self._origin_check = OriginCheck("http")

    def admit(self, exchange: Exchange) -> None:
        self._check_key(exchange)
        if exchange.method == "POST":
            self._origin_check.check(exchange)

    def _check_key(self, exchange: Exchange) -> None:
        if self._keys is None or (self._is_loopback and exchange.route.api == READ):
            return
        if not self._keys.authenticate(exchange.header(b"authorization")).admin:
            raise Forbidden("expected an admin's key")

    def slot(self, _: Exchange) -> AbstractContextManager[None]:
        return nullcontext()

    def ended(self, _exchange: Exchange, _status: int, code: str) -> None:
        if code:
            self._events.request_failed(code)
