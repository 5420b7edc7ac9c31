"""The data port's conditions for a request, in the order in which they are checked.

First the port itself: its name (421), its route (404, 405). Then here: key and rate (401, 429),
room (503); of a POST the type and encoding of its body (415), its origin if it changes the server
(403), the size of its body (413). A slot (503) is taken once the body is received.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from time import monotonic

from headrace.edge.content_types import refusal
from headrace.edge.exchange import Exchange
from headrace.edge.origin_check import OriginCheck
from headrace.edge.problems import LEFT
from headrace.errors import OUTCOMES, UnsupportedEncoding, UnsupportedMedia
from headrace.gateway.admission import Admission
from headrace.gateway.wire.compression import check_encoding
from headrace.keys import KeyRing
from headrace.telemetry.events import GatewayEvents

__all__ = ["DataPolicy", "watch_loop"]

# We only see the part of a block after the next timer is due, so the period must be short.
_LAG_PERIOD_S = 0.02
_NO_SLOT = nullcontext()

Check = Callable[[Exchange], None]


class DataPolicy:
    """The data port's policy. Without `keys` nobody needs one; with them, all but health does.

    `bodies` are the limits of bodies, in bytes, for models that have their own.
    """

    def __init__(
        self,
        admission: Admission,
        events: GatewayEvents,
        keys: KeyRing | None,
        bodies: Mapping[str, int],
        origin_check: OriginCheck,
    ) -> None:
        self._admission = admission
        self._events = events
        self._keys = keys
        self._bodies = bodies
        self._origin_check = origin_check
        self._checks: tuple[Check, ...] = (self._check_key, self._check_room)
        self._checks_of_posts: tuple[Check, ...] = (
            _check_type,
            _check_encoding,
            self._check_origin,
            self._limit_body,
        )
        events.watch_in_flight(lambda: admission.in_flight)

    def admit(self, exchange: Exchange) -> None:
        for check in self._checks:
            check(exchange)
        if exchange.method == "POST":
            for check in self._checks_of_posts:
                check(exchange)

    def _check_key(self, exchange: Exchange) -> None:
        if self._keys is None or exchange.route.is_public:
            return
        key = self._keys.authenticate(exchange.header(b"authorization"))
        self._keys.take(key)
        exchange.key = key

    def _check_room(self, exchange: Exchange) -> None:
        if not exchange.route.is_always_answered:
            self._admission.check(exchange.key_id)

    def _check_origin(self, exchange: Exchange) -> None:
        if exchange.route.changes_server:
            self._origin_check.check(exchange)

    def _limit_body(self, exchange: Exchange) -> None:
        most = exchange.route.max_body_bytes
        model = exchange.params.get("model", "")
        if most is not None:
            exchange.max_body_bytes = min(exchange.max_body_bytes, most)
        elif model in self._bodies and exchange.may_use(model):
            exchange.max_body_bytes = self._bodies[model]

    def slot(self, exchange: Exchange) -> AbstractContextManager[None]:
        if exchange.route.is_always_answered:
            return _NO_SLOT
        return self._admission.slot(exchange.key_id)

    def ended(self, exchange: Exchange, status: int, code: str) -> None:
        if self._keys is not None and exchange.key is not None:
            self._keys.give_back(exchange.key)
            exchange.key = None
        events, api = self._events, exchange.route.api
        outcome = OUTCOMES[code] if code else "left" if status == LEFT else "answered"
        seconds = monotonic() - exchange.received_s
        events.request_ended(exchange.model, exchange.version, api, status, outcome, seconds)
        if exchange.method == "POST":
            events.body_received(api, exchange.received_s - exchange.began_s)
        if code:
            events.request_failed(code)


def _check_type(exchange: Exchange) -> None:
    if reason := refusal(exchange.headers.get(b"content-type", b""), exchange.route.reads):
        raise UnsupportedMedia(reason)


def _check_encoding(exchange: Exchange) -> None:
    encoding = exchange.headers.get(b"content-encoding")
    if encoding is None:
        return
    if not exchange.route.may_be_compressed and encoding.lower() != b"identity":
        raise UnsupportedEncoding(
            "Content-Encoding: expected none; bodies of infer requests alone may be compressed"
        )
    check_encoding(encoding.decode("latin-1").lower())


async def watch_loop(events: GatewayEvents, clock: Callable[[], float] = monotonic) -> None:
    """Report how late the loop runs a timer, for as long as the gateway lives."""
    while True:
        due_s = clock() + _LAG_PERIOD_S
        await asyncio.sleep(_LAG_PERIOD_S)
        events.loop_lagged(max(0.0, clock() - due_s))
