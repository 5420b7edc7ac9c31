"""The admin port's routes, and whom it lets in."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext

from headrace.admin import pages, repository
from headrace.admin.repository import Desk
from headrace.edge.changes import Changes
from headrace.edge.exchange import Exchange, Response
from headrace.edge.routes import Route
from headrace.errors import Forbidden
from headrace.keys import KeyRing
from headrace.telemetry.events import EdgeEvents

__all__ = ["ROUTES", "AdminPolicy", "Handler"]

Handler = Callable[[Desk, Exchange, bytes], Awaitable[Response]]

READ, CHANGE = "admin", "repository"
_MODELS = "/v2/repository/models/{model}"
ROUTES: tuple[Route[Handler], ...] = (
    Route("GET", "/metrics", READ, pages.metrics),
    Route("GET", "/sd", READ, pages.discovery),
    Route("GET", "/healthz", READ, pages.health),
    Route("GET", "/v2", READ, pages.server_metadata),
    Route("GET", "/v2/", READ, pages.server_metadata),
    Route("POST", "/v2/repository/index", CHANGE, repository.index),
    Route("POST", _MODELS + "/load", CHANGE, repository.load),
    Route("POST", _MODELS + "/unload", CHANGE, repository.unload),
    Route("POST", "/v2/repository/{repository}/index", CHANGE, repository.unsupported),
    Route(
        "POST", "/v2/repository/{repository}/models/{model}/load", CHANGE, repository.unsupported
    ),
    Route(
        "POST", "/v2/repository/{repository}/models/{model}/unload", CHANGE, repository.unsupported
    ),
    Route("GET", "/v2/logging", CHANGE, repository.get_logging),
    Route("POST", "/v2/logging", CHANGE, repository.set_logging),
)


class AdminPolicy:
    """Once there are keys, an admin's key is needed: for all on an open address, for changes on loopback.

    Prometheus and `headrace status` read the pages of a loopback port without one. Changes come from no other page.
    """

    def __init__(self, events: EdgeEvents, keys: KeyRing | None, *, is_loopback: bool) -> None:
        self._events = events
        self._keys = keys
        self._is_loopback = is_loopback
        self._changes = Changes("http")

    def admit(self, exchange: Exchange, template: str) -> None:  # noqa: ARG002 - a policy's signature
        if self._keys is not None and not (self._is_loopback and exchange.api == READ):
            self._ask_key(self._keys, exchange)
        if exchange.method == "POST":
            self._changes.check(exchange)

    def _ask_key(self, keys: KeyRing, exchange: Exchange) -> None:
        if not keys.authenticate(exchange.header(b"authorization")).admin:
            raise Forbidden("expected an admin's key")

    def place(self, exchange: Exchange) -> AbstractContextManager[None]:  # noqa: ARG002 - a policy's signature
        return nullcontext()

    def ended(self, exchange: Exchange, status: int, code: str) -> None:  # noqa: ARG002 - a policy's signature
        if code:
            self._events.request_failed(code)
